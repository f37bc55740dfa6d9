"""Carries what the processes on one port tell each other: datagrams between sockets in their private folder."""

import contextlib
import socket
from pathlib import Path

import anyio

from gateway.clock import Clock
from gateway.core.shared import Shared

PERIOD_S, IDLE_PERIOD_S = 0.005, 0.02
"""How often it looks for news while there are some, and while there are none."""

FULL_S = 1.0
"""How often everything is told again, and the folder is looked at for processes that have come."""

MAX_DATAGRAM = 1 << 17


class Siblings:
    """Each process has the socket `NUMBER.share` there. One that nobody listens at is a dead one's."""

    def __init__(self, folder: Path, number: int, shared: Shared, clock: Clock) -> None:
        self._folder = folder
        self._own = folder / f"{number}.share"
        self._shared = shared
        self._clock = clock
        self._others: list[Path] = []
        self._full_at = 0.0

    async def run(self) -> None:
        """Tell and hear, until cancelled."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as own:
            own.bind(str(self._own))
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._hear, own)
                    await self._tell(own)
            finally:
                self._own.unlink(missing_ok=True)

    async def _tell(self, own: socket.socket) -> None:
        while True:
            now = self._clock.monotonic()
            full = now >= self._full_at
            if full:
                self._full_at = now + FULL_S
                self._shared.expire(now)
                self._others = [path for path in self._folder.glob("*.share") if path != self._own]
            news = self._shared.news(full=full)
            for message in news:
                for other in [*self._others]:
                    self._send(own, message, other)
            await anyio.sleep(PERIOD_S if news else IDLE_PERIOD_S)

    def _send(self, own: socket.socket, message: bytes, other: Path) -> None:
        try:
            own.sendto(message, str(other))
        except (ConnectionRefusedError, FileNotFoundError):
            self._others.remove(other)
            self._shared.forget(int(other.stem))
            other.unlink(missing_ok=True)
        except OSError:
            pass  # it is behind with reading: the next full message makes good for it

    async def _hear(self, own: socket.socket) -> None:
        while True:
            await anyio.wait_readable(own)
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):  # then others have their turn
                    if self._shared.hear(own.recv(MAX_DATAGRAM), self._clock.monotonic()):
                        self._full_at = 0.0  # it has just come, and knows nothing
