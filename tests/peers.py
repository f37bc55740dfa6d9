"""A replica that does what a test tells it, byte by byte, and remembers what it was sent."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import cast

import anyio

PATIENCE_S = 10.0
MODELS = b'{"object":"list","data":[{"id":"emulated","object":"model"}]}'
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def sized(body: bytes, status: bytes = b"200 OK", *lines: bytes, content_type: bytes = b"application/json") -> bytes:
    """A whole answer with a content-length."""
    head = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status, content_type, head, len(body), body
    )  # fmt: skip


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def token(text: str, finish: str | None = None) -> bytes:
    """One event of a streamed chat."""
    reason = f'"{finish}"' if finish else "null"
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}\n\n' % (
        text.encode(), reason.encode()
    )  # fmt: skip


WHOLE = SSE + chunked(token("a"), token("b", "stop"), DONE) + LAST
"""A good streamed answer."""


class Call:
    """One request as it came, and its answer, which is the test's to give."""

    def __init__(self, wire: "_Wire", head: bytes, body: bytes) -> None:
        self._wire = wire
        self.head, self.body = head, body
        request_line, *lines = head[:-4].split(b"\r\n")
        self.target = request_line.split(b" ")[1]
        self.headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    @property
    def connection(self) -> object:
        """Which connection it came by: equal for two requests of one connection."""
        return self._wire

    def send(self, raw: bytes) -> None:
        if not self._wire.transport.is_closing():
            self._wire.transport.write(raw)

    def close(self) -> None:
        """Close in order, after what was sent."""
        self._wire.transport.close()

    def reset(self) -> None:
        """Close by TCP reset."""
        sock: socket.socket = self._wire.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._wire.transport.abort()

    @property
    def unsent(self) -> int:
        """Bytes that the connection has not taken yet."""
        return self._wire.transport.get_write_buffer_size()

    @property
    def gone(self) -> bool:
        """Whether the other side has ended its connection, or only its sending half."""
        return self._wire.gone.is_set()

    async def left(self) -> None:
        """Return once the other side has ended the connection."""
        with anyio.fail_after(PATIENCE_S):
            await self._wire.gone.wait()


class _Wire(asyncio.Protocol):
    """One connection: cuts what comes into requests."""

    transport: asyncio.Transport

    def __init__(self, peers: "Peers") -> None:
        self._peers = peers
        self._data = b""
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._peers.connected(self)

    def data_received(self, data: bytes) -> None:
        self._peers.received += len(data)
        self._data += data
        while (end := self._data.find(b"\r\n\r\n") + 4) > 3:
            call = Call(self, self._data[:end], b"")
            size = end + int((call.header(b"content-length") or [b"0"])[0])
            if len(self._data) < size:
                return
            call.body, self._data = self._data[end:size], self._data[size:]
            self._peers.arrived(call)

    def eof_received(self) -> bool:
        self.gone.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._peers.wires.discard(self)


class Peers:
    """Some scripted replicas. The requests of all of them come out of `call`, in order; GETs get the list of models.

    `answer`: does with each request what it likes, in place of `call`, `answer_get` with each GET.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.wires: set[_Wire] = set()
        self.accepted = 0
        self.received = 0
        """Bytes, of probes too."""
        self.urls: list[str] = []
        self.answer: Callable[[Call], None] | None = None
        self.answer_get: Callable[[Call], None] = lambda call: call.send(sized(MODELS))
        self.greeting: Callable[[asyncio.Transport], None] | None = None
        self._waiting: deque[Call] = deque()
        self._servers: list[asyncio.Server] = []

    async def start(self, count: int, *, send_bytes: int | None = None) -> None:
        for _ in range(count):
            sock = socket.create_server(("127.0.0.1", 0))
            if send_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
            self.urls.append(f"http://127.0.0.1:{sock.getsockname()[1]}")
            self._servers.append(await asyncio.get_running_loop().create_server(lambda: _Wire(self), sock=sock))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for wire in tuple(self.wires):
            wire.transport.abort()
        await asyncio.sleep(0)

    async def call(self) -> Call:
        """The next request that has arrived at any of them."""
        with anyio.fail_after(PATIENCE_S):
            while not self._waiting:
                await anyio.sleep(0.001)
        return self._waiting.popleft()

    # the connections' side

    def connected(self, wire: _Wire) -> None:
        self.accepted += 1
        self.wires.add(wire)
        if self.greeting is not None:
            self.greeting(wire.transport)

    def arrived(self, call: Call) -> None:
        if call.head.startswith(b"GET "):
            self.answer_get(call)
            return
        self.calls.append(call)
        if self.answer is not None:
            self.answer(call)
        else:
            self._waiting.append(call)


@contextlib.asynccontextmanager
async def scripted(count: int = 1, *, send_bytes: int | None = None) -> AsyncIterator[Peers]:
    """Peers that listen on free ports. `send_bytes`: the kernel's buffer for what they send."""
    peers = Peers()
    await peers.start(count, send_bytes=send_bytes)
    try:
        yield peers
    finally:
        await peers.stop()


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """The URL of a port where a connection never comes about: its queue is full, and nobody empties it."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as fillers:
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
