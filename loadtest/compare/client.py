"""An open-loop client: requests leave when they are due, whatever became of those before them."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import anyio
import httptools

from loadtest.compare.workload import Planned

DRAIN_S = 10.0
"""How long after the last request's moment answers are waited for, in wall seconds."""
_TAIL_BYTES = 1500
"""Holds the last events, usage among them."""
_OUTPUT = re.compile(rb'"content": ?"[^"]')
_PROMPT = re.compile(rb'"prompt_tokens": ?(\d+)')
_CACHED = re.compile(rb'"cached_tokens": ?(\d+)')


@dataclass(slots=True)
class Outcome:
    """What became of one request; times in wall seconds from the start. `None`: it did not come to that.

    Without `end_s` it was still running when the load was over. `whole`: the stream ended with `[DONE]` and no error
    event. `chunks`: events with data.
    """

    planned: Planned
    sent_s: float = 0.0
    first_s: float | None = None
    end_s: float | None = None
    status: int | None = None
    chunks: int = 0
    whole: bool = False
    prompt_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def broken(self) -> bool:
        """It had begun to answer, and its stream ended before its end."""
        return self.first_s is not None and self.end_s is not None and not self.whole

    @property
    def refused(self) -> bool:
        """It failed before its first output, or had none when the load was over."""
        return self.first_s is None

    def hear(self, body: bytes, now_s: float) -> None:
        """Bytes of its body have come. Whoever wants to keep them does so here."""


Made = TypeVar("Made", bound=Outcome)


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._transport: asyncio.Transport | None = None
        self._outcome: Outcome | None = None
        self._done: asyncio.Future[None]
        self.silent = True
        """Nothing has come back of the present request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, outcome: Outcome) -> None:
        """Send, and return when the answer has ended or the connection has."""
        assert self._transport is not None
        self._outcome, self._tail, self.silent = outcome, b"", True
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        outcome.sent_s = self._now()
        self._transport.write(outcome.planned.raw)
        try:
            await self._done
        finally:
            if self._outcome is not None:  # given up
                self._outcome = None
                self.close()

    def data_received(self, data: bytes) -> None:
        self.silent = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_headers_complete(self) -> None:
        if self._outcome is not None:
            self._outcome.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        outcome = self._outcome
        if outcome is None:
            return
        outcome.hear(body, self._now())
        outcome.chunks += body.count(b"data: {")
        self._tail = (self._tail + body)[-_TAIL_BYTES:]
        if outcome.first_s is None and _OUTPUT.search(self._tail):
            outcome.first_s = self._now()

    def on_message_complete(self) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return
        tail = self._tail
        outcome.whole = outcome.status == 200 and tail.rstrip().endswith(b"[DONE]") and b'"error"' not in tail
        prompt, cached = _PROMPT.search(tail), _CACHED.search(tail)
        outcome.prompt_tokens = int(prompt[1]) if prompt else None
        outcome.cached_tokens = int(cached[1]) if cached else None
        self._end(outcome)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        outcome.end_s = self._now()
        if not self._done.done():
            self._done.set_result(None)


class Load:
    """All requests of a run against one port."""

    def __init__(self, port: int, speed: float, *, drain_s: float = DRAIN_S) -> None:
        self._port = port
        self._speed = speed
        self._drain_s = drain_s
        self._free: list[Connection] = []
        self._started_s = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._started_s

    async def run(self, planned: Sequence[Planned], make: Callable[[Planned], Made]) -> list[Made]:
        """Send each when it is due. What has not ended `drain_s` after the last one is given up."""
        outcomes = [make(one) for one in planned]
        self._started_s = time.perf_counter()
        async with anyio.create_task_group() as group:
            for outcome in outcomes:
                await anyio.sleep(max(0.0, outcome.planned.at_s / self._speed - self.now()))
                group.start_soon(self._ask, outcome)
            group.cancel_scope.deadline = anyio.current_time() + self._drain_s
        for connection in self._free:
            connection.close()
        return outcomes

    async def _ask(self, outcome: Outcome) -> None:
        while self._free:
            connection = self._free.pop()
            if connection.alive:
                await connection.ask(outcome)
                if not (connection.silent and not connection.alive):
                    break
                # The router had closed it in the meantime: as any pooled client does, once more.
        else:
            loop = asyncio.get_running_loop()
            try:
                _, connection = await loop.create_connection(lambda: Connection(self.now), "127.0.0.1", self._port)
            except OSError:
                outcome.sent_s = outcome.end_s = self.now()
                return
            await connection.ask(outcome)
        if connection.alive:
            self._free.append(connection)
