"""uvicorn as the process's shell: sockets, TLS, signals and a graceful stop, told of before it begins."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import uvicorn

GRACE_S = 2.0
"""After SIGTERM: how long the port stays open, so that balancers see `/readyz` fail and not a refused connection."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `OSError` with a text for people."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # Python 3.11 puts the address into strerror, too. The errno of a resolver's error is negative.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {why}") from None
    # Accepted connections inherit it. uvloop sets it itself; asyncio does not, for sockets made without a protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@dataclass(frozen=True, slots=True)
class Listeners:
    """Listening sockets that this process was given; it opens those that are `None`."""

    public: socket.socket | None = None
    admin: socket.socket | None = None


class Server(uvicorn.Server):
    """uvicorn's server, which tells of a stop before it begins, and leaves the signal at that."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None], *, signals: bool) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._signals = signals and threading.current_thread() is threading.main_thread()
        self.interrupted = False
        self._grace_s = 0.0
        self._retiring = False
        self.servers = []
        self._socket: socket.socket

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted = self.interrupted or sig == signal.SIGINT
        if sig == signal.SIGTERM:
            self._grace_s = GRACE_S
            self._retiring = False
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

    def retire(self) -> None:
        """Other processes accept on this socket from now on; what is connected here goes on as long as it needs."""
        self._retiring = True
        self.should_exit = True

    async def main_loop(self) -> None:
        await super().main_loop()
        if self._retiring:
            for server in self.servers:
                server.close()
        loop = asyncio.get_running_loop()
        since = loop.time()
        while self._stays(loop.time() - since):
            await asyncio.sleep(0.05)
        left_s = (self.config.timeout_graceful_shutdown or 1) - (loop.time() - since)
        self.config.timeout_graceful_shutdown = max(1, round(left_s))

    def _stays(self, spent_s: float) -> bool:
        """Whether the connections are left as they are a little longer."""
        if self.force_exit or spent_s >= (self.config.timeout_graceful_shutdown or 1):
            return False
        return bool(self.server_state.connections) if self._retiring else spent_s < self._grace_s

    def bind(self, inherited: socket.socket | None = None) -> None:
        """Take over a listening socket, or open one. Raises `OSError`, which uvicorn itself would turn into an exit."""
        self._socket = inherited or listen(self.config.host, self.config.port)

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
        """The port it listens on, also when it was asked for any free one; 0 for a socket without ports."""
        if self._socket.family == socket.AF_UNIX:
            return 0
        port: int = self._socket.getsockname()[1]
        return port


def bind(public: Server, admin: Server, listeners: Listeners) -> None:
    """Take over or open the sockets of both. Raises `OSError`; then neither is open."""
    public.bind(listeners.public)
    try:
        admin.bind(listeners.admin)
    except OSError:
        public.unbind()
        raise


def url_of(host: str, port: int, *, tls: bool = False) -> str:
    """Where such a port is reached."""
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
