"""uvicorn as the process's shell: sockets, TLS, signals and a graceful stop, told of before it begins."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn


class Server(uvicorn.Server):
    """uvicorn's server, which tells of a stop before it begins, and leaves the signal at that."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None], *, signals: bool) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._signals = signals and threading.current_thread() is threading.main_thread()
        self.interrupted = False
        self.servers = []
        self._socket: socket.socket

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted = self.interrupted or sig == signal.SIGINT
        super().handle_exit(sig, frame)  # first: it takes a Ctrl-C for the second one if a stop has begun already
        self._stopping()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again at the end, before the log is written and the pool closed.
        if not self._signals:
            yield
            return
        old = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in old.items():
                signal.signal(sig, handler)

    def bind(self) -> None:
        """Open the listening socket. Raises `OSError`, which uvicorn itself would turn into an exit."""
        family = socket.AF_INET6 if ":" in self.config.host else socket.AF_INET
        try:
            self._socket = socket.create_server((self.config.host, self.config.port), family=family, backlog=2048)
        except OSError as error:
            where = f"{self.config.host}:{self.config.port}"
            # Python 3.11 puts the address into strerror, too. The errno of a resolver's error is negative.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise OSError(error.errno, f"cannot listen on {where}: {why}") from None
        # Accepted connections inherit it. uvloop sets it itself; asyncio does not, for sockets made without a protocol.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def unbind(self) -> None:
        self._socket.close()

    async def serve_bound(self) -> None:
        try:
            await self.serve(sockets=[self._socket])
        finally:
            # Cancelled, uvicorn leaves its listeners open, and uvloop never closes over a socket closed under it.
            for server in self.servers:
                server.close()
            self.unbind()

    @property
    def port(self) -> int:
        """The port it listens on, also when it was asked for any free one."""
        port: int = self._socket.getsockname()[1]
        return port
