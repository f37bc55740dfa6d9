"""A client that sees bytes: what an HTTP library would hide or refuse to send."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

PATIENCE_S = 10.0
CHAT = "/v1/chat/completions"


@dataclass
class Response:
    """One response. `complete`: whether it came to the end that its framing promised; `chunks`: as they came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = True

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object, checked for its four fields."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


def request(
    path: str, body: bytes | Mapping[str, Any], *lines: str, method: str = "POST", version: str = "1.1"
) -> bytes:
    """A whole request with its content-length; JSON unless `lines` name another type."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    if not any(line.lower().startswith("content-type:") for line in lines):
        lines = (*lines, "content-type: application/json")
    head = [f"{method} {path} HTTP/{version}", "host: gateway", *lines, f"content-length: {len(payload)}", "", ""]
    return "\r\n".join(head).encode() + payload


def chat(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "emulated", "messages": [{"role": "user", "content": text}], **fields}


class Client:
    """One connection. What waits gives up with TimeoutError after `PATIENCE_S`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._data = b""
        self.was_reset = False
        self.address: tuple[str, int] = writer.get_extra_info("sockname")

    def send(self, raw: bytes) -> None:
        self._writer.write(raw)

    async def send_all(self, raw: bytes) -> None:
        """Send, and wait until the other side's kernel has nearly all of it; stops when the connection ends."""
        self._writer.write(raw)
        with contextlib.suppress(ConnectionError), anyio.fail_after(PATIENCE_S):
            await self._writer.drain()

    def post(self, body: bytes | Mapping[str, Any], path: str = CHAT, *lines: str) -> None:
        self.send(request(path, body, *lines))

    async def until(self, mark: bytes) -> bytes:
        """All bytes up to the mark and with it; EOFError if the connection ends before."""
        while mark not in self._data:
            if not await self._more():
                raise EOFError(self._data)
        end = self._data.index(mark) + len(mark)
        return self._take(end)

    async def exactly(self, size: int) -> bytes:
        while len(self._data) < size:
            if not await self._more():
                raise EOFError(self._data)
        return self._take(size)

    async def rest(self) -> bytes:
        """All bytes to the end of the connection, be it a close or a reset."""
        while await self._more():
            pass
        return self._take(len(self._data))

    async def ended(self) -> bool:
        """Whether the next thing to come is the connection's end."""
        return not self._data and not await self._more()

    async def head(self) -> Response:
        """A response's head."""
        status_line, *lines = (await self.until(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        assert status_line.startswith("HTTP/1.1 ")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Response(int(status_line.split(" ")[1]), headers)

    async def response(self) -> Response:
        """The next response, whole or as far as it got."""
        response = await self.head()
        try:
            if response.header("transfer-encoding") == "chunked":
                while piece := await self.chunk():
                    response.chunks.append(piece)
            elif (length := response.header("content-length")) is not None:
                response.chunks.append(await self.exactly(int(length)))
            elif response.status != 204:
                response.chunks.append(await self.rest())
        except EOFError:
            response.chunks.append(self._take(len(self._data)))
            response.complete = False
        response.body = b"".join(response.chunks)
        return response

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty for the last."""
        size = int(await self.until(b"\r\n"), 16)
        piece = await self.exactly(size + 2)
        assert piece.endswith(b"\r\n")
        return piece[:-2]

    async def ask(self, body: bytes | Mapping[str, Any], path: str = CHAT, *lines: str) -> Response:
        self.post(body, path, *lines)
        return await self.response()

    def half_close(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _more(self) -> bool:
        try:
            with anyio.fail_after(PATIENCE_S):
                piece = await self._reader.read(1 << 20)
        except ConnectionError:
            self.was_reset = True
            piece = b""
        self._data += piece
        return bool(piece)

    def _take(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        return taken


@contextlib.asynccontextmanager
async def connect(port: int, *, receive_bytes: int | None = None) -> AsyncIterator[Client]:
    """A connection; it reads nothing by itself beyond a few kilobytes. `receive_bytes`: the kernel's buffer."""
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
