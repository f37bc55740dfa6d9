"""Several processes on one port: one starts them, keeps their number, replaces them, and gathers their admin ports.

All accept from one queue, that of a socket which stays open: a member that ends takes no waiting connection along.
"""

import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import anyio
import httpx
import uvicorn
from anyio.abc import Process, SocketStream, TaskGroup

from gateway.api.gathered import Gathered, Peer
from gateway.cli.member import READY
from gateway.observability.sums import Sums
from gateway.serving.server import Server

log = logging.getLogger("gateway.crew")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
"""Before one that died is followed by another; the pause doubles with each that did not live for the longer time."""

ASK_TIMEOUT_S = 5.0


@dataclass(eq=False)
class Member:
    """One process. `peer`: its admin port."""

    process: Process
    channel: SocketStream
    peer: Peer
    ready: bool = False
    retired: bool = False
    told: anyio.Event = field(default_factory=anyio.Event)
    """It is ready, or has ended."""
    ended: anyio.Event = field(default_factory=anyio.Event)
    reloads: bool = False
    began_at: float = field(default_factory=time.monotonic)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def reload(self) -> None:
        """One that is starting may have read the old file, and does not listen yet."""
        if self.ready:
            self.send(signal.SIGHUP)
        else:
            self.reloads = True


class Crew:
    """Runs `size` members until a signal ends them all. `command`: a member's, without its descriptors."""

    def __init__(
        self, size: int, command: Sequence[str], env: Mapping[str, str], listener: socket.socket, max_body_bytes: int
    ) -> None:
        self._size = size
        self._command = command
        self._env = {**os.environ, **env}
        self._listener = listener
        self._sums = Sums()
        self._all: list[Member] = []
        self._places: list[Member] = []
        self._changing = anyio.Lock()
        self._rolls = False
        self._stop: signal.Signals | None = None
        self._numbers = count(1)
        self.admin = Gathered(lambda: [member.peer for member in self._all], self._sums, max_body_bytes)

    async def run(self, greet: Callable[[Peer], Awaitable[None]], admin: uvicorn.Config, bound: socket.socket) -> int:
        """The exit code of the command. `greet` is called once all are ready."""
        server = Server(admin, lambda: None, signals=False)
        server.bind(bound)
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-")))
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2) as signals:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._heed, signals, group)
                    group.start_soon(server.serve_bound)
                    code = await self._live(group, greet)
                    server.should_exit = True
                    group.cancel_scope.cancel()
        return code

    async def _live(self, group: TaskGroup, greet: Callable[[Peer], Awaitable[None]]) -> int:
        async with self._changing:
            for _ in range(self._size):
                self._places.append(await self._start(group))
        for member in self._places:
            await member.told.wait()
        if not all(member.ready for member in self._places) and self._stop is None:
            self._end(signal.SIGTERM)  # it has said why
            code = 1
        else:
            code = 130 if self._stop == signal.SIGINT else 0
            if self._stop is None:
                await greet(self._places[0].peer)
        async with anyio.create_task_group() as places:
            for place in range(self._size):
                places.start_soon(self._keep, group, place)
        for member in [*self._all]:
            await member.ended.wait()
        return 130 if self._stop == signal.SIGINT else code

    async def _heed(self, signals: AsyncIterator[signal.Signals], group: TaskGroup) -> None:
        async for number in signals:
            match number:
                case signal.SIGHUP:
                    for member in self._all:
                        member.reload()
                case signal.SIGUSR2:
                    group.start_soon(self._roll, group)
                case _:
                    self._end(number)

    def _end(self, number: signal.Signals) -> None:
        self._stop = number
        for member in self._all:
            member.send(number)

    async def _keep(self, group: TaskGroup, place: int) -> None:
        """Let the place never be empty for long."""
        pause_s = FIRST_PAUSE_S
        while self._stop is None:
            member = self._places[place]
            await member.ended.wait()
            if self._stop is not None or self._places[place] is not member:
                continue
            lived_s = time.monotonic() - member.began_at
            pause_s = FIRST_PAUSE_S if lived_s > LONGEST_PAUSE_S else min(LONGEST_PAUSE_S, 2 * pause_s)
            log.error("process %d ended with %s: another follows", member.process.pid, member.process.returncode)
            await anyio.sleep(pause_s)
            async with self._changing:
                if self._places[place] is member and self._stop is None:
                    self._places[place] = await self._start(group)

    async def _roll(self, group: TaskGroup) -> None:
        """Replace one after the other; the old ones stay if a new one does not come up."""
        if self._rolls:
            return
        self._rolls = True
        for place in range(self._size):
            async with self._changing:
                new = await self._start(group)
                await new.told.wait()
                if not new.ready:
                    log.error("a new process ended with %s: the old ones stay", new.process.returncode)
                    break
                old, self._places[place] = self._places[place], new
                old.retired = True
                with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):  # it may have died
                    await old.channel.send_eof()
                log.info("process %d takes over from %d", new.process.pid, old.process.pid)
        self._rolls = False

    async def _start(self, group: TaskGroup) -> Member:
        path = self._folder / f"{next(self._numbers)}.sock"
        ours, theirs = socket.socketpair()
        with theirs, socket.socket(socket.AF_UNIX) as admin:
            admin.bind(str(path))
            admin.listen()
            sockets = (self._listener.fileno(), admin.fileno(), theirs.fileno())
            process = await anyio.open_process(
                [*self._command, "--worker", ",".join(map(str, sockets))],
                stdin=None,
                stdout=None,
                stderr=None,
                env=self._env,
                pass_fds=sockets,
                # Ctrl-C on the terminal reaches them through us, once.
                start_new_session=True,
            )
        http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://gateway", timeout=ASK_TIMEOUT_S
        )
        member = Member(process, await SocketStream.from_socket(ours), Peer(http))
        self._all.append(member)
        group.start_soon(self._attend, member)
        if self._stop is not None:
            member.send(self._stop)
        return member

    async def _attend(self, member: Member) -> None:
        """Hear a member, from its start to its end."""
        page = await self._hear(member)
        await member.process.wait()
        self._all.remove(member)
        self._sums.keep(page or member.peer.page)
        member.ended.set()
        member.told.set()
        await member.channel.aclose()
        await member.peer.http.aclose()

    async def _hear(self, member: Member) -> bytes:
        """Its last page of metrics; empty if it died."""
        page = b""
        async for data in _received(member.channel):
            if not member.ready and data.startswith(READY):
                data = data.removeprefix(READY)
                await self.admin.brief(member.peer)
                member.ready = True
                member.told.set()
                if member.reloads:
                    member.send(signal.SIGHUP)
            page += data
        return page if page.endswith(b"\n") else b""


async def _received(channel: SocketStream) -> AsyncIterator[bytes]:
    while True:
        try:
            yield await channel.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return
