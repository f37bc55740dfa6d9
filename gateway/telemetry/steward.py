"""What follows from readings with time, and not with the next of them: they go stale, and the index learns of them."""

from collections.abc import Awaitable, Callable

import anyio

from gateway.clock import Clock
from gateway.core.affinity import PrefixIndex
from gateway.core.fleet import Board
from gateway.core.pressure import forgotten
from gateway.core.types import FleetSnapshot

TICK_S = 0.25
"""As often as engines are asked: a restart is known to the index as soon as the next reading would be."""


class Steward:
    """Looks after the board each `TICK_S`."""

    def __init__(self, board: Board, index: PrefixIndex, clock: Clock, *, engine_stale_s: float) -> None:
        self._board = board
        self._index = index
        self._clock = clock
        self._engine_stale_s = engine_stale_s

    async def run(self, sleep: Callable[[float], Awaitable[None]] = anyio.sleep) -> None:
        while True:
            self.tick()
            await sleep(TICK_S)

    def tick(self) -> None:
        """Nothing yields in here: what was read is what is replaced."""
        now = self._clock.monotonic()
        old = self._board.current.replicas
        new = tuple([forgotten(view, now, self._engine_stale_s) for view in old])
        if any(after is not before for after, before in zip(new, old, strict=True)):
            self._board.publish(FleetSnapshot(new))
        self._index.follow(self._board.current)
