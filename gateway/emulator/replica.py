"""One emulated vLLM replica: a port, an engine, its faults, and the books that tests read."""

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gateway.emulator import misbehave, routes
from gateway.emulator.driver import Driver
from gateway.emulator.engine import EngineModel, EngineParams
from gateway.emulator.faults import AT_ONCE, IN_ANSWERS, Fault, FaultPlan
from gateway.emulator.gpu import Gpu, GpuReadings
from gateway.emulator.job import Job
from gateway.emulator.metrics import Metrics
from gateway.emulator.prompts import Served
from gateway.emulator.shapes import Shape
from gateway.emulator.wire import Connection, Request

_RECENT = 64


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """How a replica is started. `speed`: of its engine's time. `idle_s`: when idle connections close."""

    served: Served
    params: EngineParams
    policy: str = "fcfs"
    speed: float = 1.0
    api_key: str | None = None
    idle_s: float = 5.0


class Replica:
    """Serves from `start` to `stop`.

    Counts are of inference requests, and requests_seen = running + completed + aborted + refused: a request that the
    client left or a fault cut is aborted; one with a mistake in it is refused. Probes are in `paths_seen` only.
    """

    def __init__(self, settings: ReplicaSettings, host: str, port: int, *, first_gpu: int = 0) -> None:
        self.settings = settings
        self.gpus = [Gpu(first_gpu + i) for i in range(settings.params.gpus)]
        self.requests_seen = 0
        self.completed = 0
        self.aborted = 0
        self.refused = 0
        self.running = 0
        self.paths_seen: Counter[str] = Counter()
        self.recent: deque[Request] = deque(maxlen=_RECENT)
        self.faults = FaultPlan()
        self._slow = (1.0, 1.0)
        self.metrics = Metrics(settings.params, settings.served.models[0])
        self._connections: set[Connection] = set()
        self._waits: list[tuple[Callable[[Replica], bool], asyncio.Future[None]]] = []
        self._socket = _listen(host, port)
        self.host, self.port = host, self._socket.getsockname()[1]
        self._listening = True
        self._accepting: asyncio.Server | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "dead" if not self._listening else f"{self.running} running, {self.requests_seen} seen"
        return f"<Replica {self.url} {state}>"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def last(self) -> Request:
        """The newest inference request, raw; IndexError if there was none."""
        return self.recent[-1]

    @property
    def connections(self) -> int:
        return len(self._connections)

    # -- life

    async def start(self) -> None:
        self.driver = Driver(EngineModel(self.settings.params, policy=self.settings.policy), speed=self.settings.speed)
        await self._serve()

    async def stop(self) -> None:
        self.fault("die")
        if self._task is not None:
            await self._task
        for _ in range(3):  # what is to be closed soon
            await asyncio.sleep(0)
        self._socket.close()

    async def until(self, condition: Callable[["Replica"], bool]) -> None:
        """Return as soon as the condition holds; it is looked at whenever a count changes."""
        if condition(self):
            return
        wait = asyncio.get_running_loop().create_future()
        self._waits.append((condition, wait))
        await wait

    # -- faults

    def fault(self, kind: str, **fields: object) -> None:
        """Command a fault by its name and the fields of `Fault`. Takes effect before it returns."""
        self.command(msgspec.convert({"fault": kind, **fields}, Fault))

    def recover(self) -> None:
        """Undo every fault. A dead replica's port accepts again when this returns; its cache is empty."""
        self.fault("recover")

    def command(self, fault: Fault) -> None:
        if fault.fault not in AT_ONCE:
            self.faults.add(fault)
        elif fault.fault == "recover":
            self._recover()
        elif fault.fault == "slow":
            self._slow = fault.speeds
            self._pace()
        elif fault.fault == "throttle":
            self.gpus[0].throttle(fault.cause, *fault.speeds, *self._work())
            self._pace()
        elif fault.fault == "xid":
            self.gpus[0].xid = fault.xid
        elif fault.fault == "freeze":
            self.driver.freeze()
        else:
            self._unlisten()
            if fault.fault == "go_silent":
                self.driver.freeze()
            else:
                self._die()

    def _die(self) -> None:
        for connection in tuple(self._connections):
            connection.reset()

    def _recover(self) -> None:
        self.faults.clear()
        self._slow = (1.0, 1.0)
        for gpu in self.gpus:
            gpu.recover(*self._work())
        self._pace()
        self.driver.thaw()
        if not self._listening:
            self._die()
            self.driver.engine.reset_cache()
            self._socket.listen(2048)
            self._listening = True
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._serve())

    def _pace(self) -> None:
        """Run as fast as the slowest GPU, or as `slow` says."""
        speeds = [self._slow, *((gpu.clock, gpu.memory) for gpu in self.gpus)]
        clocks, memories = zip(*speeds, strict=True)
        self.driver.engine.throttle(clock=min(clocks), memory=min(memories))

    def _work(self) -> tuple[float, float]:
        """The time, and how much of it the engine was at work."""
        now = self.driver.now()
        return now, self.driver.engine.busy_s(now)

    def look_at_gpus(self) -> list[tuple[int, GpuReadings]]:
        """What an exporter reads of its GPUs, by their index."""
        return [(gpu.index, gpu.look(*self._work())) for gpu in self.gpus]

    async def _serve(self) -> None:
        """Accept from a duplicate of the listening socket, so that closing it never gives the port away."""
        loop = asyncio.get_running_loop()
        accepted = self._socket.dup()
        server = await loop.create_server(lambda: Connection(self, idle_s=self.settings.idle_s), sock=accepted)
        if self._listening:
            self._accepting = server
        else:  # it died again meanwhile, and the loop has made the socket listen
            server.close()
            self._shut()

    def _unlisten(self) -> None:
        if self._listening:
            self._listening = False
            if self._accepting is not None:
                _close(self._accepting)
                self._accepting = None
            self._shut()

    def _shut(self) -> None:
        # On Linux this ends listening and keeps an explicit binding: the port refuses, and nobody else can take it.
        self._socket.shutdown(socket.SHUT_RDWR)

    # -- the connections' handler

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        if not self._listening:  # accepted just before it died: nobody would ever close it
            connection.reset()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._changed()

    def handle(self, connection: Connection, request: Request) -> None:
        if request.path.startswith("/emulator/"):
            routes.control(self, connection, request)
            return
        inference = request.method == "POST" and request.path in routes.INFERENCE
        self.paths_seen[request.path] += 1
        if inference:
            self.requests_seen += 1
            self.recent.append(request)
        fault = self.faults.take(inference=inference)
        if fault is not None and fault.fault not in IN_ANSWERS:
            self.begun()
            misbehave.arrive(fault, connection, request, self.ended)
        else:
            handed_over = routes.answer(self, connection, request, fault)
            self.refused += inference and not handed_over
        self._changed()

    def run(self, connection: Connection, shape: Shape, fault: Fault | None) -> None:
        """Put one request to the engine; its own fault, if it has one, hides a lasting one."""

        def current() -> Fault | None:
            return fault or self.faults.ongoing

        self.begun()
        job = Job(connection, shape, self.driver, self.metrics, current, self.ended)
        job.start(self.settings.params.block_tokens)

    def begun(self) -> None:
        self.running += 1

    def ended(self, completed: bool) -> None:
        self.running -= 1
        self.completed += completed
        self.aborted += not completed
        self._changed()

    def _changed(self) -> None:
        for condition, wait in tuple(self._waits):
            if not wait.done() and condition(self):
                wait.set_result(None)
        self._waits = [(condition, wait) for condition, wait in self._waits if not wait.done()]

    def state(self) -> dict[str, object]:
        """The counts, for /emulator/state."""
        engine = self.driver.engine
        return {
            "url": self.url,
            "listening": self._listening,
            "requests_seen": self.requests_seen,
            "completed": self.completed,
            "aborted": self.aborted,
            "refused": self.refused,
            "running": self.running,
            "connections": self.connections,
            "engine": {"running": engine.running, "waiting": engine.waiting, "kv_usage": engine.kv_usage},
            "paths_seen": dict(self.paths_seen),
        }


def _close(server: asyncio.Server) -> None:
    """Accept no more. What asyncio has accepted and made no transport for yet it forgets, and never closes, if its
    server is closed first (`Server._attach` of Python 3.11); so that comes two turns of the loop later."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):
        for accepting in server.sockets:
            loop.remove_reader(accepting.fileno())
        loop.call_soon(loop.call_soon, server.close)
    else:
        server.close()


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to its port by number, also when any will do: only such a binding outlives `shutdown`."""
    with socket.socket() as probe:
        if port == 0:
            # It keeps the port until the real one has it too; both may, while neither listens.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, 0))
            port = probe.getsockname()[1]
        return socket.create_server((host, port), backlog=2048)
