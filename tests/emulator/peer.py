"""A client that sees bytes: for what an HTTP library would hide."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from gateway.emulator.replica import Replica


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    def post(self, path: str, body: Mapping[str, Any], *headers: str) -> None:
        payload = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: r", "Content-Type: application/json", *headers]
        self.send("\r\n".join([*lines, f"Content-Length: {len(payload)}", "", ""]).encode() + payload)

    async def until(self, mark: bytes) -> bytes:
        return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        """All bytes to the end of the connection, be it a close or a reset."""
        got = b""
        try:
            while piece := await self.reader.read(65536):
                got += piece
        except ConnectionError:
            pass
        return got

    def half_close(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def connect(replica: Replica, *, receive_bytes: int | None = None) -> AsyncIterator[Peer]:
    """`receive_bytes`: the kernel's buffer, small for a client that is to fall behind."""
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (replica.host, replica.port))
    except OSError:
        sock.close()
        raise
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The JSON of all data lines of a stream, without [DONE]."""
    lines = [line for line in response.text.split("\n") if line.startswith("data: {")]
    return [json.loads(line[6:]) for line in lines]


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def told(response: httpx.Response) -> str:
    """The text of a chat or completion stream."""
    choices = [choice for event in events(response) for choice in event["choices"]]
    return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)
