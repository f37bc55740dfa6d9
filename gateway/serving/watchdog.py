"""One timer for every deadline: a chunk that passes writes down a number, and no timer is set or cancelled for it."""

import asyncio
from math import inf
from typing import Protocol

from gateway.clock import Clock

PERIOD_S = 0.25
"""How late a deadline may be noticed that was set since the last look; the contract's shortest limits are seconds."""

LEAST_S = 0.005
"""Between two looks. A deadline that is known by then is noticed so late at most."""


class Watched(Protocol):
    deadline: float

    def expired(self) -> None: ...


class Watchdog:
    """Calls `expired` on whatever is past its deadline; members enter and leave by the `watched` set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.watched: set[Watched] = set()

    def look(self) -> float:
        """One round over everything watched; how many seconds from now the next deadline is, `inf` without one."""
        now = self._clock.monotonic()
        if self._next <= now:
            for member in [member for member in self.watched if member.deadline <= now]:
                member.expired()
        return self._next - now

    @property
    def _next(self) -> float:
        return min([member.deadline for member in self.watched], default=inf)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        wait_s = PERIOD_S
        while True:
            await asyncio.sleep(min(PERIOD_S, max(LEAST_S, wait_s)))
            wait_s = self.look()
