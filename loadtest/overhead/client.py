"""Load generator: keep-alive connections on a plain protocol, one request at a time on each.

It counts content events and takes the time of the first one. It decodes no JSON, to stay cheaper than what it measures.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import cast

import httptools

from loadtest.overhead.mock import DONE, TOKEN

NEEDLE = f'"delta":{{"content":"{TOKEN}"}}'.encode()
NEEDLE_TAIL = len(NEEDLE) - 1  # too short to hold a whole needle: nothing is counted twice


class LoadError(RuntimeError):
    """An answer was not what was asked for; the measurement is void."""


class Exchange:
    """One request and what has come back of it; times in seconds of the performance counter."""

    __slots__ = ("finished", "first_s", "first_token", "sent_s", "status", "tokens", "whole")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sent_s = time.perf_counter()
        self.first_s: float | None = None
        self.status = 0
        self.tokens = 0
        self.whole = False  # a stream that ended with [DONE]
        self.first_token: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()

    def ttft_s(self) -> float:
        """Seconds from the write to the first content event; raises LoadError when there was none."""
        if self.first_s is None:
            raise LoadError(f"no token arrived (status {self.status})")
        return self.first_s - self.sent_s

    def fail(self, why: str) -> None:
        """End both waits with a LoadError."""
        for future in (self.first_token, self.finished):
            if not future.done():
                future.set_exception(LoadError(why))
                future.exception()  # seen: not every caller waits for both


class Connection(asyncio.Protocol):
    """One client connection; `total` is the sum of content events over all of a client's connections."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parts: list[bytes] = []

    def begin(self, request: bytes) -> Exchange:
        """Send; the caller waits on the exchange's futures. Raises LoadError on a closed connection."""
        if self._transport is None or self._transport.is_closing():
            raise LoadError("connection is closed")
        self._tail, self._complete = b"", False
        self._parser = httptools.HttpResponseParser(self)
        self._exchange = exchange = Exchange(self._client.loop)
        self._transport.write(request)
        return exchange

    @property
    def alive(self) -> bool:
        """False once either side has closed."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close at once, also in the middle of a stream."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.fail(f"connection lost in the middle of an answer: {exc or 'end of file'}")

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._complete = True

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()  # bytes that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            exchange.fail(f"not HTTP: {exc}")
            self.close()
            return
        self._count(exchange)
        if self._complete:
            self._finish(exchange)

    def _count(self, exchange: Exchange) -> None:
        body = self._tail + b"".join(self._parts)
        self._parts.clear()
        found = body.count(NEEDLE)
        if found:
            if exchange.first_s is None:
                exchange.first_s = time.perf_counter()
                exchange.first_token.set_result(None)
            exchange.tokens += found
            self._client.tokens += found
        self._tail = body[-NEEDLE_TAIL:]

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = None
        exchange.status = self._parser.get_status_code()
        exchange.whole = self._tail.endswith(DONE)
        exchange.finished.set_result(None)
        if not exchange.first_token.done():
            exchange.fail(f"the answer had no token (status {exchange.status})")


class Client:
    """Connections to one port; `close` leaves none open."""

    def __init__(self, port: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.tokens = 0
        self._port = port
        self._free: list[Connection] = []
        self._all: list[Connection] = []

    async def take(self) -> Connection:
        """A free connection, or a new one."""
        while self._free:
            connection = self._free.pop()
            if connection.alive:
                return connection
        _, connection = await self.loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
        self._all.append(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Back to the free ones; last in, first out."""
        self._free.append(connection)

    async def ask(self, request: bytes, tokens: int | None = None) -> Exchange:
        """The whole exchange, checked: status 200 and, for a stream, `tokens` content events and [DONE]."""
        connection = await self.take()
        exchange = connection.begin(request)
        await exchange.finished
        self.give(connection)
        if exchange.status != 200:
            raise LoadError(f"status {exchange.status}")
        if tokens is not None and (exchange.tokens != tokens or not exchange.whole):
            raise LoadError(f"{exchange.tokens} of {tokens} tokens, [DONE] {'seen' if exchange.whole else 'missing'}")
        return exchange

    async def closed_loop(self, requests: Iterable[bytes], connections: int, tokens: int | None = None) -> None:
        """Every request once, `connections` at a time."""
        feed = iter(requests)
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._drain(feed, tokens))

    async def _drain(self, feed: Iterator[bytes], tokens: int | None) -> None:
        for request in feed:
            await self.ask(request, tokens)

    def close(self) -> None:
        """Abort every connection; streams that still run end here."""
        for connection in self._all:
            connection.close()
