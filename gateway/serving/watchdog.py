"""One timer for every deadline: a chunk that passes writes down a number, and no timer is set or cancelled for it."""

import asyncio
from typing import Protocol

from gateway.clock import Clock

PERIOD_S = 0.25
"""How late a deadline may be noticed; the contract's shortest limits are seconds."""


class Watched(Protocol):
    deadline: float

    def expired(self) -> None: ...


class Watchdog:
    """Calls `expired` on whatever is past its deadline; members enter and leave by the `watched` set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.watched: set[Watched] = set()

    def look(self) -> None:
        """One round over everything watched."""
        now = self._clock.monotonic()
        for member in [member for member in self.watched if member.deadline <= now]:
            member.expired()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            self.look()
