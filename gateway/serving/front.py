"""The client's side: the protocol class that uvicorn runs on the public port.

It reads heads itself, relays the paths of the relay table, and hands the connection of any other request to uvicorn's
own protocol, with the bytes read so far, the way uvicorn hands over WebSockets.
"""

import asyncio
from collections.abc import Callable
from math import inf

from gateway.core.endpoints import RELAYED, Endpoint
from gateway.errors import BadRequest, GatewayError, UploadTimeout
from gateway.observability.records import RequestRecord
from gateway.serving.desk import Desk
from gateway.serving.exchange import Exchange
from gateway.serving.http import (
    CONTINUE,
    MAX_HEAD_BYTES,
    ChunkedBody,
    RequestHead,
    SizedBody,
    body_too_large,
    error_response,
    head_too_large,
    read_head,
)
from gateway.serving.watchdog import Watchdog

MAX_HELD_BYTES = 64 * 1024
"""Pipelined bytes kept while a response runs; a client that sends more is not read until its turn."""

KEEP_ALIVE_S = 75.0
"""How long an idle client may keep its connection (nginx's default); longer than SDKs keep theirs."""

LINGER_S = 2.0
"""After an error in mid-upload: how long to read on, so that the client gets to see the response, not a reset."""

_HEAD_END = b"\r\n\r\n"


class Front(asyncio.Protocol):
    """One client connection. `_read` is the state: the method that the next bytes go to."""

    def __init__(
        self,
        desk: Desk,
        watchdog: Watchdog,
        connections: set["Front"],
        ids: Callable[[], str],
        other: Callable[[], asyncio.Protocol],
    ) -> None:
        self._desk = desk
        self._watchdog = watchdog
        self._connections = connections
        self._make_id = ids
        self._make_other = other
        self._read: Callable[[bytes], None] = self._read_head
        self._held = b""
        self._started_at: float | None = None
        self._exchange: Exchange | None = None
        self._last = False
        self.paused = False
        self.deadline = inf

    # asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._connections.add(self)
        self._watchdog.watched.add(self)
        self.deadline = self._now() + KEEP_ALIVE_S

    def data_received(self, data: bytes) -> None:
        self._read(data)

    def eof_received(self) -> bool:
        return False  # as vLLM does: a client that has closed its sending half has left

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self.paused = True
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self.paused = False
        if self._exchange is not None:
            self._exchange.resume()
        elif self._read == self._hold:
            self._next()

    # uvicorn's side

    def shutdown(self) -> None:
        """The process is stopping: idle connections close now, busy ones after their response."""
        self._last = True
        if self._exchange is None:
            self.transport.close()

    # the watchdog's side

    def expired(self) -> None:
        """The deadline has passed; whose it was depends on the state."""
        self.deadline = inf
        if self._exchange is not None:
            self._exchange.expired()
        elif self._started_at is not None:
            self._reject(UploadTimeout("the request did not arrive in time"))
        else:
            self.transport.abort()

    def drain(self) -> None:
        """The time for draining is over."""
        if self._exchange is not None:
            self._exchange.drain()
        self.transport.close()

    # the exchange's side

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def finished(self, *, close: bool) -> None:
        self._exchange = None
        self._started_at = None
        if close or self._last:
            self._read = self._discard
            self.deadline = self._now() + self._desk.limits.idle_timeout_s  # for what is still to be flushed
            self.transport.close()
            return
        if self.paused:
            # The client has not read this answer yet: `_hold` goes on, or the next one would pile up behind it.
            self.deadline = self._now() + self._desk.limits.idle_timeout_s
        else:
            self._next()

    def _next(self) -> None:
        """The connection is free for the next request, which may be here already."""
        self._read = self._read_head
        self.deadline = self._now() + KEEP_ALIVE_S
        if self._held:
            # Not from here: a client may have pipelined a thousand requests that are all refused at once.
            asyncio.get_running_loop().call_soon(self._next_pipelined)

    def cut(self) -> None:
        self.transport.abort()

    # states

    def _read_head(self, data: bytes) -> None:
        if self._started_at is None:
            self._started_at = self._now()
            self.deadline = self._started_at + self._desk.limits.request_read_timeout_s
        data = self._held + data if self._held else data
        if data.startswith(b"\r\n"):
            data = data.lstrip(b"\r\n")  # empty lines before a request line are to be ignored: RFC 9112, 2.2
        end = data.find(_HEAD_END)
        self._held = b""
        if end < 0:
            self._wait_for_head(data)
            return
        if end > MAX_HEAD_BYTES:
            self._reject(head_too_large())
            return
        try:
            head = read_head(data[: end + 4])
        except GatewayError as error:
            self._reject(error)
            return
        endpoint = RELAYED.get(head.path) if head.method == b"POST" else None
        if endpoint is None:
            self._hand_to_other(head, data)
        else:
            self._read_body(endpoint, head, data[end + 4 :])

    def _wait_for_head(self, data: bytes) -> None:
        if len(data) > MAX_HEAD_BYTES:
            self._reject(head_too_large())
        elif b"\0" in data or data.count(b"\n") != data.count(b"\r\n"):
            # Its blank line would never come.
            self._reject(BadRequest("this is not a valid HTTP request: a bare LF or NUL in the headers"))
        else:
            self._held = data

    def _read_body(self, endpoint: Endpoint, head: RequestHead, data: bytes) -> None:
        limit = self._desk.limits.max_body_bytes
        length = head.content_length or 0
        if length > limit:
            self._reject(body_too_large(length, limit), head)
        elif not head.chunked and len(data) >= length:
            self._begin(endpoint, head, data[:length], data[length:])
        else:
            self._collect_body(endpoint, head, data, ChunkedBody() if head.chunked else SizedBody(length))

    def _collect_body(self, endpoint: Endpoint, head: RequestHead, data: bytes, body: ChunkedBody | SizedBody) -> None:
        limit = self._desk.limits.max_body_bytes
        if head.continues and not data:
            self.transport.write(CONTINUE)

        def read(data: bytes) -> None:
            try:
                body.feed(data)
            except GatewayError as error:
                self._reject(error, head)
                return
            if body.size > limit:
                self._reject(body_too_large(body.size, limit), head)
            elif body.complete:
                # Where a request behind chunks would begin is not known: the client sends it again, elsewhere.
                head.keep_alive = head.keep_alive and not body.overrun
                self._begin(endpoint, head, b"".join(body.pieces), body.rest)

        self._read = read
        if data:
            read(data)

    def _begin(self, endpoint: Endpoint, head: RequestHead, body: bytes, rest: bytes) -> None:
        self._read = self._hold
        self._held = rest
        self.deadline = inf
        assert self._started_at is not None
        head.keep_alive = head.keep_alive and not self._last
        self._exchange = Exchange(self._desk, self, endpoint, head, head.request_id or self._make_id())
        self._exchange.begin(body, self._started_at)

    def _hold(self, data: bytes) -> None:
        """A response is running: keep what is pipelined, and keep reading, or the client's leaving would go unseen."""
        self._held += data
        if len(self._held) > MAX_HELD_BYTES:
            self.transport.pause_reading()

    def _next_pipelined(self) -> None:
        if self.transport.is_closing() or self._exchange is not None:
            return
        held, self._held = self._held, b""
        if len(held) > MAX_HELD_BYTES:
            self.transport.resume_reading()
        if held:
            self._read_head(held)

    def _discard(self, data: bytes) -> None:
        """The response says that this connection is over."""

    # ways out

    def _reject(self, error: GatewayError, head: RequestHead | None = None) -> None:
        """Answer a request that cannot be read to its end, then close; nothing of it has reached a replica."""
        request_id = (head and head.request_id) or self._make_id()
        response = error_response(error, request_id, close=True)
        self.write(response)
        now = self._now()
        self._desk.ledger.settle(
            RequestRecord(
                time=self._desk.clock.wall(),
                request_id=request_id,
                path=RELAYED[head.path].path if head is not None else "",
                status=error.status,
                error=error.message,
                duration_s=now - (self._started_at or now),
                bytes=len(response),
            )
        )
        self._linger(now)

    def _linger(self, now: float) -> None:
        self._read = self._discard
        self._started_at = None
        self.deadline = now + LINGER_S
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _hand_to_other(self, head: RequestHead, data: bytes) -> None:
        """Not a path that is relayed: uvicorn's protocol takes the connection over, and closes it when it is done."""
        self._forget()
        other = self._make_other()
        other.connection_made(self.transport)
        self.transport.set_protocol(other)
        # In origin form: uvicorn finds no path in an absolute target that ends with its host.
        other.data_received(data if head.url is head.target else data.replace(head.target, head.url, 1))

    def _forget(self) -> None:
        self._connections.discard(self)
        self._watchdog.watched.discard(self)

    def _now(self) -> float:
        return self._desk.clock.monotonic()
