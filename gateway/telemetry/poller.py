"""One loop for each replica: ask, publish, wait; so that a slow or dead replica never delays another's readings."""

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from tenacity import AsyncRetrying, retry_if_result, wait_exponential

from gateway.clock import Clock
from gateway.core.fleet import Board
from gateway.core.types import Reading, Replica, ReplicaId, ReplicaState, ReplicaView

log = logging.getLogger("gateway.telemetry")

FIRST_RETRY_S = 0.25
"""The first wait after a failure; each further one is twice as long, so that three failures take under a second."""

MAX_BACK_OFF = 5
"""Intervals between two looks at a replica that does not answer, at most: rarely enough for one that is gone for good,
and soon enough for one that comes back."""

JITTER_RATIO = 0.1
"""Waits differ by up to this share, so that replicas and gateways do not fall into step."""


class NoAnswer(Exception):
    """A replica did not answer, or not rightly. The text says how, for the log."""


Ask = Callable[[Replica], Awaitable[Reading]]
"""Asks one replica. Raises `NoAnswer` for all that a replica may do wrong."""


@dataclass(slots=True)
class _Watch:
    """What one loop remembers: the state it last told of, and whether a surprise is already in the log."""

    replica: Replica
    told: ReplicaState | None = None
    surprised: bool = False


class Poller:
    """Asks every replica of the board each `interval_s`; one that fails is asked again soon, then ever more rarely.

    `unknown` makes the reading that says that nothing is known. Publishes by `board.fold`, and does nothing else.
    """

    def __init__(
        self,
        board: Board,
        clock: Clock,
        ask: Ask,
        unknown: Callable[[ReplicaId], Reading],
        *,
        interval_s: float,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._board = board
        self._clock = clock
        self._ask = ask
        self._unknown = unknown
        self._interval_s = interval_s
        self._sleep = sleep
        self._rand = rand
        self._watched: set[Replica] = set()
        self.surprises = 0
        """Exceptions that nobody foresaw. The first of a streak is logged."""

    def __repr__(self) -> str:
        return f"<Poller of {len(self._watched)} replicas each {self._interval_s} s, {self.surprises} surprises>"

    async def run(self) -> None:
        """Poll until cancelled. The first round is at once; a replica that joins is asked within `interval_s`."""
        async with anyio.create_task_group() as group:
            while True:
                for view in self._board.current.replicas:
                    if view.replica not in self._watched:
                        self._watched.add(view.replica)
                        group.start_soon(self.watch, view.replica)
                await self._sleep(self._interval_s)

    async def watch(self, replica: Replica) -> None:
        """Ask one replica until it has left the board."""
        watch = _Watch(replica)
        ask_again = AsyncRetrying(
            wait=wait_exponential(multiplier=min(self._interval_s, FIRST_RETRY_S), max=MAX_BACK_OFF * self._interval_s),
            retry=retry_if_result(lambda settled: not settled),
            sleep=self._pause,
        )
        while self._listed(replica):
            await ask_again(self._look, watch)
            await self._pause(min(self._interval_s, FIRST_RETRY_S) if self._rising(replica) else self._interval_s)
        self._watched.discard(replica)

    async def _look(self, watch: _Watch) -> bool:
        """Publish one reading. Whether the replica need not be asked again soon: it answered, or has left."""
        reading, why = await self._read(watch)
        if not self._listed(watch.replica):
            return True
        self._board.fold(reading, self._clock.monotonic())
        self._tell(watch, why)
        return why is None

    async def _read(self, watch: _Watch) -> tuple[Reading, str | None]:
        """The reading, and why it says nothing if it does."""
        replica = watch.replica
        surprised, watch.surprised = watch.surprised, False
        try:
            return await self._ask(replica), None
        except NoAnswer as error:
            return self._unknown(replica.id), str(error)
        except Exception as error:  # the loop must outlive a reader's mistakes
            self.surprises += 1
            watch.surprised = True
            if not surprised:
                log.exception("asking replica %s failed in an unforeseen way", replica.id)
            return self._unknown(replica.id), f"unforeseen {type(error).__name__}"

    def _tell(self, watch: _Watch, why: str | None) -> None:
        """Log the replica's state if it is not the one that was logged last."""
        view = next(view for view in self._board.current.replicas if view.replica == watch.replica)
        if view.state is watch.told:
            return
        watch.told = view.state
        level = logging.WARNING if why or view.state is ReplicaState.EJECTED else logging.INFO
        log.log(
            level, "replica %s (%s) is %s: %s", watch.replica.id, watch.replica.url, view.state, why or _words(view)
        )

    def _rising(self, replica: Replica) -> bool:
        """Whether it begins to answer again, which is to be confirmed soon."""
        return any(view.condition.successes for view in self._board.current.replicas if view.replica == replica)

    async def _pause(self, seconds: float) -> None:
        await self._sleep(seconds * (1 + JITTER_RATIO * (2 * self._rand() - 1)))

    def _listed(self, replica: Replica) -> bool:
        return any(view.replica == replica for view in self._board.current.replicas)


def _words(view: ReplicaView) -> str:
    """Why a replica that answers its probes is in its state."""
    if view.state is not ReplicaState.EJECTED:
        return "it answers"
    if view.condition.gpu_lost:
        return "it answers, but has lost a GPU"
    return "it answers, but requests failed there"
