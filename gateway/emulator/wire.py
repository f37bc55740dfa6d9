"""The HTTP/1.1 face of one connection, low enough to write any bytes. Behaves like uvicorn where a client can tell.

Client close, reset and half-close all mean "gone": the request under way is told so at once, as on a real vLLM.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

import httptools

MAX_HEAD = 4 << 20
"""Bytes; vLLM's `--h11-max-incomplete-event-size`."""
_HEAD_END = b"\r\n\r\n"


@dataclass(slots=True)
class Request:
    """One request as received: `head` is the raw bytes with the blank line, `body` has the transfer coding removed."""

    head: bytes = b""
    method: str = ""
    target: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    keep_alive: bool = True
    chunkable: bool = True

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")

    def header(self, name: str) -> str | None:
        """The first value of a header, by any case."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)


class Handler(Protocol):
    """Answers the requests of connections. `handle` must see to exactly one answer, at any time."""

    def opened(self, connection: "Connection") -> None: ...
    def closed(self, connection: "Connection") -> None: ...
    def handle(self, connection: "Connection", request: Request) -> None: ...


class Connection(asyncio.Protocol):
    """Reads requests one after the other, writes answers. `on_gone` and `on_drain` tell the request under way."""

    def __init__(self, handler: Handler, *, idle_s: float) -> None:
        self.on_gone: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self.paused = False
        self.request: Request | None = None
        self._handler = handler
        self._idle_s = idle_s
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = Request()
        self._raw = bytearray()
        self._body = bytearray()
        self._in_head = True
        self._ready: deque[Request] = deque()
        self._idle: asyncio.TimerHandle | None = None
        self._chunked = False

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A stream's transport always; uvloop's is no subclass of asyncio.Transport, so an assertion would not hold.
        self._transport = cast(asyncio.Transport, transport)
        self._handler.opened(self)

    def data_received(self, data: bytes) -> None:
        self._stop_idle()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse()
        self._next()

    def eof_received(self) -> bool:
        self._gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_idle()
        self._gone()
        self._handler.closed(self)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.on_drain is not None:
            self.on_drain()

    # -- httptools' callbacks

    def on_url(self, url: bytes) -> None:
        self._incoming.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._incoming.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._incoming.method = self._parser.get_method().decode()
        self._incoming.keep_alive = self._parser.should_keep_alive()
        self._incoming.chunkable = self._parser.get_http_version() != "1.0"
        if (self._incoming.header("expect") or "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._incoming.body = bytes(self._body)
        self._ready.append(self._incoming)
        self._incoming, self._in_head = Request(), True
        self._raw.clear()
        self._body.clear()

    # -- answers

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def respond(
        self, status: int, body: bytes, content_type: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        """One whole answer."""
        length = {"content-length": str(len(body))}
        kind = {"content-type": content_type} if content_type else {}
        bare = self.request is not None and self.request.method == "HEAD"
        self.write(head(status, length | kind | dict(headers or {})) + (b"" if bare else body))
        self.finish()

    def start(self, content_type: str, headers: Mapping[str, str]) -> None:
        """The head of a streamed answer; its body is written by `chunk` and ended by `end`."""
        self._chunked = self.request is None or self.request.chunkable
        framing = {"transfer-encoding": "chunked"} if self._chunked else {"connection": "close"}
        self.write(head(200, {"content-type": content_type, "vary": "Origin"} | dict(headers) | framing))

    def frame(self, payload: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(payload), payload) if self._chunked else payload

    def chunk(self, payload: bytes) -> None:
        if payload:
            self.write(self.frame(payload))

    def end(self, payload: bytes = b"") -> None:
        """The last bytes and the end of a streamed answer, in one write."""
        last = self.frame(payload) if payload else b""
        self.write(last + (b"0\r\n\r\n" if self._chunked else b""))
        if not self._chunked:
            self.close()
        self.finish()

    def write(self, raw: bytes) -> None:
        """Any bytes, as they are."""
        if not self._transport.is_closing():
            self._transport.write(raw)

    def finish(self) -> None:
        """The answer is written; the connection is free for the next request, closed when that was agreed."""
        request, self.request = self.request, None
        self.on_gone = self.on_drain = None
        if request is not None and not request.keep_alive:
            self.close()
        elif not self._transport.is_closing():
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self.close)
        self._next()

    def close(self) -> None:
        """Close in order, after what is written."""
        self._transport.close()

    def reset(self) -> None:
        """Close with a TCP reset; what is written and not yet sent is lost."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # -- inside

    def _feed(self, data: bytes) -> None:
        """Feed the parser up to each blank line: heads and chunked bodies end with one, so no message is overrun."""
        while data:
            at = (bytes(self._raw[-3:]) + data).find(_HEAD_END)
            take = len(data) if at < 0 else at + len(_HEAD_END) - min(3, len(self._raw))
            piece, data = data[:take], data[take:]
            self._raw += piece
            if self._in_head:
                self._incoming.head = bytes(self._raw)
                if len(self._raw) > MAX_HEAD:
                    raise httptools.HttpParserError("head too large")
            else:
                del self._raw[:-3]
            self._parse(piece)

    def _parse(self, piece: bytes) -> None:
        """An upgrade is not taken, as uvicorn does: the request is served as if it had not asked."""
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)

    def _next(self) -> None:
        if self.request is None and self._ready and self.is_open:
            self._stop_idle()
            self.request = self._ready.popleft()
            self._handler.handle(self, self.request)

    def _refuse(self) -> None:
        if self.request is None:
            self.request = Request(keep_alive=False)
            self.respond(400, b"Invalid HTTP request received.", "text/plain; charset=utf-8", {"connection": "close"})
        else:
            self.close()

    def _gone(self) -> None:
        gone, self.on_gone, self.on_drain = self.on_gone, None, None
        if gone is not None:
            gone()

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """The status line and headers, dated, in uvicorn's spelling."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"date: {formatdate(usegmt=True)}", "server: uvicorn"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
