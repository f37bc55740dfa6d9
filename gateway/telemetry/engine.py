"""Each replica's own metrics: a loop for each, so that a slow or dead replica never delays another's readings."""

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import httpx

from gateway.clock import Clock
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.types import EngineReading, Replica, ReplicaId
from gateway.engines import DIALECTS
from gateway.telemetry.fetch import fetch
from gateway.telemetry.loop import Loop
from gateway.telemetry.poller import NoAnswer


class EngineTelemetry:
    """Publishes readings of all replicas whose engine shows metrics. `count` hears of each that was not right."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        board: Board,
        books: Books,
        clock: Clock,
        *,
        interval_s: float,
        timeout_s: float,
        count: Callable[[ReplicaId], object],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._http = http
        self._board = board
        self._books = books
        self._clock = clock
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._count = count
        self._sleep = sleep
        self._watched: set[Replica] = set()

    def __repr__(self) -> str:
        return f"<EngineTelemetry of {len(self._watched)} replicas each {self._interval_s} s>"

    async def run(self) -> None:
        """Ask until cancelled. A replica that joins is asked within `interval_s`."""
        async with anyio.create_task_group() as group:
            while True:
                for view in self._board.current.replicas:
                    if view.replica not in self._watched and DIALECTS[view.replica.engine].metrics_path is not None:
                        self._watched.add(view.replica)
                        group.start_soon(self._watch, view.replica)
                await self._sleep(self._interval_s)

    async def _watch(self, replica: Replica) -> None:
        loop = Loop(
            f"engine metrics of replica {replica.id}",
            partial(self.ask, replica),
            self._clock,
            interval_s=self._interval_s,
            count=partial(self._count, replica.id),
            wanted=partial(self._listed, replica),
            sleep=self._sleep,
        )
        await loop.run()
        self._watched.discard(replica)

    async def ask(self, replica: Replica) -> str | None:
        """Read one page and publish it; what is missing on it, in words. Raises `NoAnswer`."""
        dialect = DIALECTS[replica.engine]
        # With the key: vLLM asks for none here, but what stands before it may.
        headers = {"authorization": f"Bearer {replica.api_key}"} if replica.api_key else None
        url = f"{replica.url}{dialect.metrics_path}"
        page = await fetch(self._http, url, timeout_s=self._timeout_s, headers=headers)
        figures = dialect.read(page, self._clock.wall())
        if figures is None:
            raise NoAnswer(f"a page without metrics of {replica.engine}")
        reading = EngineReading(replica.id, figures, self._books[replica.id].held_tokens)
        self._board.fold(reading, self._clock.monotonic())
        if figures.kv_usage_ratio is None or figures.kv_capacity_tokens is None:
            return "a page without KV cache usage or capacity that can be right"
        return None

    def _listed(self, replica: Replica) -> bool:
        return any(view.replica == replica for view in self._board.current.replicas)
