"""One of several `gateway serve` processes on one port: what it inherits, and what it tells the one that started it."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import PIPE_BUF

import anyio

from gateway.app import Gateway
from gateway.core.shared import Shared
from gateway.core.types import ReplicaState
from gateway.serving.server import Listeners
from gateway.telemetry.siblings import Siblings

READY = b"!"
"""What a member says once it serves; its last page of metrics follows when it ends."""

READY_WITHIN_S = 10.0
"""Without a replica that answers, a member counts as ready all the same: the one that it replaces has none, either."""


class Channel:
    """The member's end: an end of file from the other side means that it is to retire."""

    def __init__(self, descriptors: str) -> None:
        """`descriptors`: numbers of the public port's socket, the private admin port's and the channel's."""
        public, admin, channel = (socket.socket(fileno=int(number)) for number in descriptors.split(","))
        self.listeners = Listeners(public, admin)
        self._socket = channel
        self._path = Path(admin.getsockname())
        # Until the gateway takes it for a reload: by default it would end the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def attend(self, gateway: Gateway) -> None:
        """What goes on beside the gateway: it tells when it serves, and retires when told so, or left alone."""
        with anyio.move_on_after(READY_WITHIN_S):
            while all(view.state is not ReplicaState.READY for view in gateway.board.current.replicas):
                await anyio.sleep(0.02)
        with contextlib.suppress(OSError):
            self._socket.sendall(READY)
        number = int(self._path.stem)
        shared = Shared(number, gateway.books, gateway.index)
        async with anyio.create_task_group() as group:
            group.start_soon(Siblings(self._path.parent, number, shared, gateway.clock).run)
            await anyio.wait_readable(self._socket)
            gateway.retire()

    @contextmanager
    def last_words(self, gateway: Gateway) -> Iterator[None]:
        """Hand over what was counted, at the end."""
        try:
            yield
        finally:
            with contextlib.suppress(OSError), self._socket:
                self._socket.setblocking(True)
                self._socket.sendall(gateway.metrics.render())


def write_lines(lines: bytes) -> None:
    """Write to a stdout that several processes share: a pipe takes pieces up to `PIPE_BUF` as a whole."""
    piece = b""
    for line in lines.splitlines(keepends=True):
        if piece and len(piece) + len(line) > PIPE_BUF:
            _write(piece)
            piece = b""
        piece += line
    _write(piece)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
