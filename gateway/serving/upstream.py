"""Connections to replicas: one protocol, and a pool that dials, reuses and expires them."""

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Protocol

import httptools

from gateway.clock import Clock
from gateway.core.types import Replica
from gateway.serving.address import Address
from gateway.serving.response_head import ResponseHead

IDLE_S = 4.0
"""A connection idle for longer is not used again: uvicorn, and with it vLLM, closes its own after 5 s."""

MAX_HEAD_BYTES = 64 * 1024

_ONE_WRITE_BYTES = 64 * 1024
"""Below this, head and body are joined into one write, one packet train; above, the copy costs more than the call."""

_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"))
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_OURS = b"x-request-id"
"""The gateway sends the same id back itself; twice would be once too often."""


class Answering(Protocol):
    """Who waits for a replica's answer."""

    def received(self, upstream: "UpstreamConnection") -> None:
        """Bytes were read: see the connection's `head`, `take()` and `complete`."""

    def stirred(self) -> None:
        """Bytes were read, but the head is not complete."""

    def broken(self, upstream: "UpstreamConnection", why: str) -> None:
        """The connection ended, or what came is not HTTP; there will be no more."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to a replica; carries one request at a time. It never closes only its sending half: vLLM takes
    that for a disconnect and aborts the request."""

    def __init__(self, pool: "Pool", replica: Replica) -> None:
        self._pool = pool
        self.replica = replica
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self.reused = False
        self.waiting: Answering | None = None
        """Who hears of the answer; `None` while nothing was asked."""

    def send(self, waiting: Answering, head: bytes, body: bytes) -> None:
        """Write a whole request; `waiting` hears of the answer."""
        self.waiting = waiting
        self.head: ResponseHead | None = None
        self.complete = False
        self.got_bytes = False
        self._next_head = ResponseHead()
        self._head_bytes = 0
        self._chunked = False
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # the parser's own call, without a frame of Python for each chunk
        self._parser = httptools.HttpResponseParser(self)
        assert self.transport is not None  # the pool hands out only connected ones
        if len(body) < _ONE_WRITE_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    def pause(self) -> None:
        """Read no more for now, so that the replica feels that its client is slow."""
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()

    def take(self) -> bytes:
        """The body's bytes that came since the last call, without transfer framing."""
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return data

    def release(self) -> None:
        """The answer is complete: back to the pool if the connection can carry another, else closed."""
        self.waiting = None
        assert self.head is not None
        if self.head.close or self._until_close or self.transport is None:
            self.abort()
        else:
            self.transport.resume_reading()  # its last client may have been slow
            self._pool.put(self)

    def abort(self) -> None:
        """Cut the connection at once; the replica sees it and aborts what it was doing."""
        self.waiting = None
        if self.transport is not None:
            self.transport.abort()

    @property
    def _until_close(self) -> bool:
        head = self.head
        return head is not None and not self._chunked and head.content_length is None and head.has_body

    # asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        waiting = self.waiting
        if waiting is None:  # nobody asked: whatever this is, it is not the answer to the next request
            self.abort()
            return
        self.got_bytes = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete or self.head is None:
                if self.head is not None and self._pieces:
                    waiting.received(self)  # what came before the broken part is good
                self._fail(f"answered with something that is not HTTP: {error}")
                return
            self.head.close = True  # bytes behind a complete answer
        if self.head is None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(f"sent more than {MAX_HEAD_BYTES} bytes of headers")
            else:
                waiting.stirred()
            return
        waiting.received(self)

    def eof_received(self) -> bool:
        return False  # close our side too; connection_lost tells the rest

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._pool.forget(self)
        waiting = self.waiting
        if waiting is None:
            return
        if exc is None and self._until_close and not self.complete:
            self.complete = True
            waiting.received(self)
        else:
            self._fail("closed the connection" if exc is None else f"broke the connection: {exc}")

    def _fail(self, why: str) -> None:
        waiting = self.waiting
        self.abort()
        if waiting is not None:
            waiting.broken(self, why)

    # httptools' side

    def on_message_begin(self) -> None:
        if self.complete:
            raise httptools.HttpParserError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        head = self._next_head
        key = name.lower()
        if key in _FRAMING:
            if key == b"content-length":
                head.content_length = int(value)
            else:
                self._chunked = True
        elif key in _HOP_BY_HOP:
            head.close = head.close or (key == b"connection" and b"close" in value.lower())
        elif key != _OURS:
            if key == b"content-type":
                head.content_type = value.lower()
            head.lines.append(b"%b: %b\r\n" % (name, value))

    def on_headers_complete(self) -> None:
        head = self._next_head
        head.status = self._parser.get_status_code()
        if head.status < 200:  # 100 and 103 only announce the answer
            self._next_head = ResponseHead()
            return
        if self._parser.get_http_version() == "1.0":
            head.close = True
        self.head = head

    def on_message_complete(self) -> None:
        self.complete = self.head is not None


class Pool:
    """Connections to all replicas. `take` is immediate; `dial` is for when it has none. `tls`: whom to trust."""

    def __init__(self, clock: Clock, tls: ssl.SSLContext) -> None:
        self._clock = clock
        self._tls = tls
        # Not by name: one that comes back with another URL or key must not find what the last one left.
        self._addresses: dict[tuple[str, str | None], Address] = {}
        self._dials: set[asyncio.Task[None]] = set()

    def take(self, replica: Replica) -> UpstreamConnection | None:
        """An idle connection that is still good, the last used first; `None`: dial one."""
        free = self._address(replica).free
        oldest = self._clock.monotonic() - IDLE_S
        while free:
            connection = free.pop()
            if connection.idle_since > oldest and connection.transport is not None:
                connection.reused = True
                return connection
            connection.abort()
        return None

    async def dial(self, replica: Replica) -> UpstreamConnection:
        """A new connection. Raises `OSError`. Event loops set TCP_NODELAY on what they open."""
        address = self._address(replica)
        tls = self._tls if address.secure else None
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: UpstreamConnection(self, replica), address.host, address.port, ssl=tls
        )
        return connection

    def spawn(self, dial: Coroutine[None, None, None]) -> None:
        """Run a dial in the background; the pool holds on to it."""
        task = asyncio.get_running_loop().create_task(dial)
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    def lines(self, replica: Replica) -> bytes:
        """The header lines that are the replica's own: its host, and its key if it has one."""
        return self._address(replica).lines

    def put(self, connection: UpstreamConnection) -> None:
        connection.idle_since = self._clock.monotonic()
        self._address(connection.replica).free.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is gone."""
        address = self._addresses.get((connection.replica.url, connection.replica.api_key))
        if address is not None and connection in address.free:
            address.free.remove(connection)

    def retire(self, replica: Replica) -> None:
        """The replica has left: close what is idle there. What is in use is closed some time after it is given back."""
        address = self._addresses.pop((replica.url, replica.api_key), None)
        while address is not None and address.free:
            address.free.pop().abort()

    def expire(self) -> None:
        """Close what has been idle too long. To be called now and then."""
        oldest = self._clock.monotonic() - IDLE_S
        for key, address in list(self._addresses.items()):
            for connection in [c for c in address.free if c.idle_since <= oldest]:
                address.free.remove(connection)
                connection.abort()
            if not address.free:  # of no use, and its replica may have left
                del self._addresses[key]

    def close(self) -> None:
        """Close what is idle, and end the dials that are under way: nobody is left to use what they would bring."""
        for task in self._dials:
            task.cancel()
        for address in self._addresses.values():
            while address.free:
                address.free.pop().abort()

    def _address(self, replica: Replica) -> Address:
        key = (replica.url, replica.api_key)
        address = self._addresses.get(key)
        if address is None:
            address = self._addresses[key] = Address(replica)
        return address

    @property
    def dialling(self) -> int:
        """How many dials are under way, questions of the gateway's own among them."""
        return len(self._dials)

    @property
    def idle(self) -> int:
        """How many connections wait for a request."""
        return sum(len(address.free) for address in self._addresses.values())

    def __repr__(self) -> str:
        return f"<Pool {self.idle} idle, {self.dialling} dialling>"
