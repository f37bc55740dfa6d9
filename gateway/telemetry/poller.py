"""One loop for each replica: ask, publish, wait; so that a slow or dead replica never delays another's readings."""

import logging
from collections.abc import Awaitable, Callable

import anyio
from tenacity import RetryCallState, Retrying, wait_exponential_jitter

from gateway.clock import Clock
from gateway.core.fleet import Board
from gateway.core.types import Reading, Replica, ReplicaId

log = logging.getLogger("gateway.telemetry")

Ask = Callable[[Replica], Awaitable[Reading]]
"""Asks one replica. What a replica may do wrong is a reading, not an exception."""

MAX_BACK_OFF_S = 10.0


class Poller:
    """Asks every replica of the board each `interval_s`; one that fails is asked again soon, then ever more rarely."""

    def __init__(
        self,
        board: Board,
        clock: Clock,
        ask: Ask,
        failed: Callable[[Reading], bool],
        *,
        interval_s: float,
        fall: int,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._board = board
        self._clock = clock
        self._ask = ask
        self._failed = failed
        self._interval_s = interval_s
        self._fall = fall
        self._sleep = sleep
        self._back_off = wait_exponential_jitter(multiplier=min(interval_s, 0.5), max=MAX_BACK_OFF_S, jitter=0.1)
        self.surprises = 0
        """Exceptions that nobody foresaw; each was logged."""

    async def run(self) -> None:
        """Poll until cancelled."""
        async with anyio.create_task_group() as group:
            for view in self._board.current.replicas:
                group.start_soon(self._watch, view.replica)

    async def _watch(self, replica: Replica) -> None:
        failures = 0
        while True:
            failures = 0 if await self._look(replica) else failures + 1
            await self._sleep(self._wait_s(failures))

    async def _look(self, replica: Replica) -> bool:
        """One reading; whether it was a good one."""
        try:
            reading = await self._ask(replica)
        except Exception:  # the loop must outlive a reader's mistakes
            self.surprises += 1
            log.exception("reading %s failed in an unforeseen way", replica.id)
            return False
        before = self._state(replica.id)
        self._board.fold(reading, self._clock.monotonic(), fall=self._fall)
        after = self._state(replica.id)
        if after != before:
            log.warning("replica %s (%s) is now %s, was %s", replica.id, replica.url, after, before)
        return not self._failed(reading)

    def _wait_s(self, failures: int) -> float:
        if failures == 0:
            return self._interval_s
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = failures
        return self._back_off(state)

    def _state(self, replica: ReplicaId) -> str | None:
        for view in self._board.current.replicas:
            if view.id == replica:
                return view.state.value
        return None
