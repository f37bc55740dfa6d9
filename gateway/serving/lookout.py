"""Looks for replicas that have fallen silent, and for those whose time to drain is over: their streams go on elsewhere.

A vLLM that is stopped often sends neither another byte nor an end, while its port refuses already. So where nothing of
a replica has moved for a moment its port is asked, and neither the idle time-out nor that for the first token waited
for. A port that refuses is certain; that health has put it out is not, and its own pauses must not explain the silence.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from gateway.clock import Clock
from gateway.core.fleet import Board
from gateway.core.types import Replica, ReplicaId, ReplicaState, ReplicaView
from gateway.errors import Draining, GatewayError, ReplicaFailed
from gateway.serving.dial import DialFailed, dial
from gateway.serving.upstream import Pool

PERIOD_S = 0.25
QUIET_S = 0.5
"""Shorter silences are nothing: a long prefill of others holds up every stream of a replica for as long. To ask costs
one connection, so that no longer pause of late is a reason to ask later."""

PAUSES = 2.0
"""A silence so many times as long as the longest of late is not explained by them."""

FORGET = 0.98
"""Of a longest pause, so much is left at the next look: half of it after nine seconds."""

ASK_EACH_S = 1.0


_Identity = tuple[ReplicaId, str, str | None, str]


class Stream(Protocol):
    """A request at a replica, as the lookout sees it; `Attempt` is one."""

    replica: Replica

    @property
    def moved_at(self) -> float | None:
        """When output last came, in monotonic seconds; `None` while there was none."""

    def lose(self, error: GatewayError, reason: str) -> None:
        """Its replica is given up."""


class _Ear:
    """What is remembered of one replica between two looks."""

    __slots__ = ("asked_at", "draining_since", "moved_at", "pause_s", "silent_s")

    def __init__(self, now: float) -> None:
        self.moved_at = now
        """When it was last heard of; where nothing has moved yet, when its first stream was seen."""
        self.silent_s = 0.0
        self.pause_s = 0.0
        self.asked_at = 0.0
        self.draining_since: float | None = None

    def hear(self, moved: list[float], now: float) -> None:
        """`moved`: when output of its streams last came."""
        self.pause_s *= FORGET
        moved_at = max(moved, default=0.0)
        if moved_at > self.moved_at:  # what was silent at the last look has moved: it was a pause
            self.pause_s = max(self.pause_s, self.silent_s)
            self.moved_at = moved_at
        self.silent_s = now - self.moved_at

    @property
    def quiet(self) -> bool:
        """Whether it has been silent for a moment."""
        return self.silent_s > QUIET_S

    @property
    def explained(self) -> bool:
        """Whether it was silent for as long of late, and went on."""
        return self.silent_s <= PAUSES * self.pause_s


class Lookout:
    """`streams`: every request that is at a replica; they enter and leave by themselves."""

    def __init__(
        self,
        streams: set[Stream],
        board: Board,
        pool: Pool,
        clock: Clock,
        *,
        connect_timeout_s: float,
        drain_timeout_s: float,
    ) -> None:
        self._streams = streams
        self._board = board
        self._pool = pool
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._drain_timeout_s = drain_timeout_s
        self._ears: dict[_Identity, _Ear] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            self.look()

    def look(self) -> None:
        """One round over all replicas that have streams."""
        now = self._clock.monotonic()
        views = {view.id: view for view in self._board.current.replicas}
        at: dict[_Identity, list[Stream]] = {}
        for stream in self._streams:
            at.setdefault(stream.replica.identity, []).append(stream)
        self._ears = {identity: self._ears.get(identity) or _Ear(now) for identity in at}
        for identity, streams in at.items():
            state = _state(views.get(streams[0].replica.id), streams[0].replica)
            self._listen(self._ears[identity], state, streams, now)

    def _listen(self, ear: _Ear, state: ReplicaState | None, streams: list[Stream], now: float) -> None:
        replica = streams[0].replica
        if state is None:
            _lose(streams, Draining(f"replica {replica.id} has left the fleet", retry_after_s=1), "drain")
            return
        if state is not ReplicaState.DRAINING:
            ear.draining_since = None
        elif ear.draining_since is None:
            ear.draining_since = now
        elif now - ear.draining_since > self._drain_timeout_s:
            _lose(streams, Draining(f"replica {replica.id} has drained", retry_after_s=1), "drain")
            return
        ear.hear([stream.moved_at for stream in streams if stream.moved_at is not None], now)
        if not ear.quiet:
            return
        if state is ReplicaState.EJECTED and not ear.explained:
            moving = [stream for stream in streams if stream.moved_at is not None]
            _lose(moving, ReplicaFailed(f"replica {replica.id} is silent, and out"), "silent")
        if now - ear.asked_at >= ASK_EACH_S:
            ear.asked_at = now
            self._pool.spawn(self._ask(replica))

    async def _ask(self, replica: Replica) -> None:
        """Does anybody listen there? A time-out says nothing: a busy replica accepts late."""
        try:
            connection = await dial(self._pool, replica, self._connect_timeout_s)
        except DialFailed as error:
            if error.reason == "refused":
                there = [stream for stream in self._streams if stream.replica.identity == replica.identity]
                _lose(there, error, "refused")
        else:
            self._pool.put(connection)


def _state(view: ReplicaView | None, replica: Replica) -> ReplicaState | None:
    """That of the replica; `None` if it has left. Of one whose name is another's by now nothing is known that would be
    a reason to end its streams: they go on to their end."""
    if view is None:
        return None
    return view.state if view.replica.identity == replica.identity else ReplicaState.READY


def _lose(streams: Iterable[Stream], error: GatewayError, reason: str) -> None:
    for stream in list(streams):
        stream.lose(error, reason)
