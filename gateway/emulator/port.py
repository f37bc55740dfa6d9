"""A port of the whole fleet: answers requests by one function, and no fault ever strikes it."""

import asyncio
import socket
from collections.abc import Callable

from gateway.emulator.wire import Connection, Request

IDLE_S = 60.0


class Port:
    """Serves from `start` to `stop`; not at all without a number, at a free one for 0."""

    def __init__(self, handle: Callable[[Connection, Request], None], number: int | None) -> None:
        self.handle = handle
        self.url: str | None = None
        self._number = number
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    async def start(self, host: str) -> None:
        """OSError if the port is taken."""
        if self._number is None:
            return
        listener = socket.create_server((host, self._number))
        self.url = f"http://{host}:{listener.getsockname()[1]}"
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self, idle_s=IDLE_S), sock=listener)

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.reset()

    # -- the connections' handler

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
