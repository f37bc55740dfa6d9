"""Several replicas in one process and, if wanted, two ports for them all that outlive every fault: control and GPUs."""

import asyncio
from types import TracebackType

import msgspec

from gateway.emulator import dcgm
from gateway.emulator.engine import EngineParams
from gateway.emulator.faults import read_fault
from gateway.emulator.port import Port
from gateway.emulator.prompts import Served
from gateway.emulator.refusals import NOT_FOUND
from gateway.emulator.replica import Replica, ReplicaSettings
from gateway.emulator.wire import Connection, Request


class Fleet:
    """Emulated replicas, serving inside `async with` (or from `start` to `stop`). `port` 0: free ones.

    ValueError if a context of `max_model_len` tokens does not fit the KV cache, as vLLM refuses to start then.
    """

    def __init__(
        self,
        replicas: int = 2,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        control_port: int | None = None,
        gpu_port: int | None = None,
        speed: float = 1.0,
        models: tuple[str, ...] = ("emulated",),
        adapters: tuple[str, ...] = (),
        api_key: str | None = None,
        params: EngineParams | None = None,
        policy: str = "fcfs",
        max_model_len: int = 32768,
        idle_s: float = 5.0,
    ) -> None:
        params = params or EngineParams.named("8b-h100")
        if max_model_len > params.kv_tokens:
            raise ValueError(f"max_model_len {max_model_len} does not fit the KV cache of {params.kv_tokens} tokens")
        self.replicas: list[Replica] = []
        self._count, self._host, self._port = replicas, host, port
        self._control = Port(self._answer, control_port)
        self._exporter = Port(self._export, gpu_port)
        self._settings = ReplicaSettings(
            served=Served(models, max_model_len, adapters),
            params=params,
            policy=policy,
            speed=speed,
            api_key=api_key,
            idle_s=idle_s,
        )

    @property
    def control_url(self) -> str | None:
        """Where it takes faults; `None` if that was not wanted."""
        return self._control.url

    @property
    def gpu_url(self) -> str | None:
        """Where its exporter has `/metrics`; `None` if that was not wanted."""
        return self._exporter.url

    @property
    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    def replica(self, index: int) -> Replica:
        return self.replicas[index]

    async def start(self) -> None:
        """OSError if a port is taken; nothing is left open then."""
        try:
            for index in range(self._count):
                port = self._port + index if self._port else 0
                first_gpu = index * self._settings.params.gpus
                self.replicas.append(Replica(self._settings, self._host, port, first_gpu=first_gpu))
            for replica in self.replicas:
                await replica.start()
            await self._control.start(self._host)
            await self._exporter.start(self._host)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Everything is closed, streams by reset."""
        for replica in self.replicas:
            await replica.stop()
        self._control.stop()
        self._exporter.stop()
        # Closing connections end in callbacks of the loop's next round.
        await asyncio.sleep(0)

    async def __aenter__(self) -> "Fleet":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- what the two ports answer

    def _answer(self, connection: Connection, request: Request) -> None:
        """POST /emulator/faults with `"replica": index` (all, when absent), GET /emulator/state."""
        if (request.method, request.path) == ("GET", "/emulator/state"):
            connection.respond(200, msgspec.json.encode([replica.state() for replica in self.replicas]))
        elif (request.method, request.path) == ("POST", "/emulator/faults"):
            self._command(connection, request)
        else:
            connection.respond(404, NOT_FOUND)

    def _command(self, connection: Connection, request: Request) -> None:
        try:
            fields = msgspec.json.decode(request.body, type=dict[str, object])
            index = msgspec.convert(fields.pop("replica", None), int | None)
            fault = read_fault(msgspec.json.encode(fields))
            chosen = self.replicas if index is None else [self.replicas[index]]
        except (msgspec.MsgspecError, IndexError) as error:
            connection.respond(400, msgspec.json.encode({"error": str(error)}))
            return
        for replica in chosen:
            replica.command(fault)
        connection.respond(200, msgspec.json.encode({"fault": fault.fault, "replicas": len(chosen)}))

    def _export(self, connection: Connection, request: Request) -> None:
        """GET /metrics as dcgm-exporter has it, GET /health."""
        if (request.method, request.path) == ("GET", "/metrics"):
            looks = [look for replica in self.replicas for look in replica.look_at_gpus()]
            connection.respond(200, dcgm.page(looks), dcgm.CONTENT_TYPE)
        elif (request.method, request.path) == ("GET", "/health"):
            connection.respond(200, b"OK", "text/plain")
        else:
            connection.respond(404, NOT_FOUND)
