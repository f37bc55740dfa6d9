"""What follows with time, and not with the next reading: old ones become unknown, slowness shows, the index learns."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio

from gateway.clock import Clock
from gateway.core.affinity import PrefixIndex
from gateway.core.alarm import SLOW_FOR_S, SlowAlarm, slow_ratio
from gateway.core.fleet import Board
from gateway.core.gpu import Gpus, any_lost, slowest
from gateway.core.pressure import forgotten
from gateway.core.slowdown import Slowness, used
from gateway.core.tokens import TokenRatios
from gateway.core.types import FleetSnapshot, HealthReading, ReplicaId, ReplicaView, Sign, Slowdown

log = logging.getLogger("gateway.telemetry")

TICK_S = 0.25
"""As often as engines are asked: a restart is known to the index as soon as the next reading would be."""

MOST_PER_TICK = 128
"""A thousand replicas are looked at once in two seconds: 20 ms for all of them would be felt by every stream."""


class Steward:
    """Looks after the board each `TICK_S`."""

    def __init__(
        self,
        board: Board,
        index: PrefixIndex,
        ratios: TokenRatios,
        slowness: Slowness,
        gpus: Gpus,
        clock: Clock,
        *,
        engine_stale_s: float,
    ) -> None:
        self._board = board
        self._index = index
        self._ratios = ratios
        self._slowness = slowness
        self._gpus = gpus
        self._clock = clock
        self._engine_stale_s = engine_stale_s
        self._alarm = SlowAlarm()
        self._restarts: dict[ReplicaId, int] = {}
        self._turn = 0

    async def run(self, sleep: Callable[[float], Awaitable[None]] = anyio.sleep) -> None:
        while True:
            self.tick()
            await sleep(TICK_S)

    def tick(self) -> None:
        """Nothing yields in here: what was read is what is replaced."""
        now = self._clock.monotonic()
        old = self._board.current
        due = self._due(old)
        self._slowness.settle(due, now)
        learned = self._slowness.learned(old)
        new = tuple([self._seen(view, learned.get(view.id), now) if view.id in due else view for view in old.replicas])
        if any(after is not before for after, before in zip(new, old.replicas, strict=True)):
            self._board.publish(FleetSnapshot(new))
        for view in new:
            self._heed_gpus(view, now)
        if len(self._restarts) > len(new):  # some have left
            self._restarts = {view.id: self._restarts[view.id] for view in new if view.id in self._restarts}
        self._index.follow(self._board.current, self._ratios)
        self._tell(now)

    def _due(self, fleet: FleetSnapshot) -> set[ReplicaId]:
        """The replicas that it is the turn of: all of them, unless there are very many."""
        count = len(fleet.replicas)
        if count <= MOST_PER_TICK:
            return {view.id for view in fleet.replicas}
        start, self._turn = self._turn % count, (self._turn + MOST_PER_TICK) % count
        twice = fleet.replicas + fleet.replicas
        return {view.id for view in twice[start : start + MOST_PER_TICK]}

    def _seen(self, view: ReplicaView, learned: Slowdown | None, now: float) -> ReplicaView:
        """The view as it is by now; the same object if nothing has changed."""
        view = forgotten(view, now, self._engine_stale_s)
        self._heed_restart(view)
        gpus = self._gpus.views(view.replica.gpus, now)
        if learned == view.learned and gpus == view.gpus:
            return view
        slowdown = used(learned, slowest(gpus))
        return replace(view, learned=learned, gpus=gpus, gpu_lost=any_lost(gpus), slowdown=slowdown)

    def _heed_gpus(self, view: ReplicaView, now: float) -> None:
        """A replica with a lost GPU is out until its GPUs are seen to be well: one that is lost may show no more."""
        if view.gpu_lost is not None and view.gpu_lost is not view.condition.gpu_lost:
            sign = Sign.GPU_LOST if view.gpu_lost else Sign.GPU_FOUND
            self._board.fold(HealthReading(view.id, sign), now)
            log.warning("replica %s: %s", view.id, "a GPU is lost" if view.gpu_lost else "its GPUs are back")

    def _heed_restart(self, view: ReplicaView) -> None:
        restarts = view.engine.restarts if view.engine else 0
        if restarts > self._restarts.get(view.id, 0):
            self._gpus.forgive(view.replica.gpus)
        self._restarts[view.id] = restarts

    def _tell(self, now: float) -> None:
        for view, slow in self._alarm.look(self._board.current, now):
            ratio = slow_ratio(view)
            if slow:
                log.warning("replica %s is %.1f times slower than nominal for %g s", view.id, ratio, SLOW_FOR_S)
            else:
                log.info("replica %s is no longer slow", view.id)
