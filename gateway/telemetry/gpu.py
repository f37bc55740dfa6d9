"""GPU sources: each asked by a loop of its own; what they show goes into `Gpus`, which the steward looks at."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from types import ModuleType
from typing import Protocol

import anyio
import httpx

from gateway.clock import Clock
from gateway.core.fleet import Board
from gateway.core.gpu import Gpus
from gateway.core.vitals import GpuSample
from gateway.engines.exposition import Sample, samples
from gateway.telemetry import gpu_amd, gpu_dcgm, gpu_nvidia_smi, gpu_prometheus
from gateway.telemetry.fetch import fetch
from gateway.telemetry.gpu_nvml import NvmlReader
from gateway.telemetry.loop import Loop
from gateway.telemetry.poller import NoAnswer

log = logging.getLogger("gateway.telemetry")

TIMEOUT_S = 5.0
"""For a whole answer: nvidia-smi behind an exporter, or a query to Prometheus, takes a second or two."""


class Dialect(Protocol):
    """A module that reads one kind of exporter."""

    NAMES: Sequence[str]

    def gpus(self, samples: Iterable[Sample], host: str | None, wall: float) -> list[GpuSample]: ...


DIALECTS: dict[str, ModuleType] = {"dcgm": gpu_dcgm, "nvidia_smi": gpu_nvidia_smi, "amd": gpu_amd}
"""The kinds that show Prometheus' text format."""


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of `telemetry.gpu.sources`. `kind`: its key there. `url`: `local` for NVML."""

    kind: str
    url: str
    host: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.url}" + (f" ({self.host})" if self.host else "")


@dataclass(frozen=True, slots=True)
class Shown:
    """What one look gave: at least one GPU. `wrong`: what is wrong with the rest of it, in words."""

    gpus: list[GpuSample]
    wrong: str | None = None


Read = Callable[[], Awaitable[Shown]]
"""Asks a source once. Raises `NoAnswer`, also when it shows no GPU."""


def reader(source: Source, http: httpx.AsyncClient, clock: Clock, *, timeout_s: float) -> Read:
    """How this source is read."""
    if source.kind == "nvml":
        return partial(_read_nvml, NvmlReader(host=source.host, timeout_s=timeout_s))
    if source.kind == "prometheus":
        return partial(_read_prometheus, source, http, clock, timeout_s)
    return partial(_read_page, source, http, clock, timeout_s)


async def _read_nvml(nvml: NvmlReader) -> Shown:
    found = await nvml.read()
    if not found:
        raise NoAnswer("the driver knows of no GPU")
    return _shown(found)


async def _read_page(source: Source, http: httpx.AsyncClient, clock: Clock, timeout_s: float) -> Shown:
    dialect = DIALECTS[source.kind]
    page = await fetch(http, _path(source.url, "/metrics"), timeout_s=timeout_s)
    lines = list(samples(page, dialect.NAMES))
    found: list[GpuSample] = dialect.gpus(lines, source.host, clock.wall())
    if not found:
        raise NoAnswer(f"a page without GPUs of {source.kind}, or of another hour")
    return _shown(found, broken=any(isnan(line.value) and not line.labels for line in lines))


def _shown(found: list[GpuSample], *, broken: bool = False) -> Shown:
    wrong = None
    if broken:
        wrong = "a page with lines that cannot be read"
    elif not all(sample.names for sample in found):
        wrong = "a GPU without UUID, host and index by which a replica could name it"
    elif all(sample.temp_c is None and sample.clock_mhz is None and sample.lost is None for sample in found):
        wrong = "neither temperatures nor clocks that can be right"
    return Shown(found, wrong)


async def _read_prometheus(source: Source, http: httpx.AsyncClient, clock: Clock, timeout_s: float) -> Shown:
    url = source.url.rstrip("/") + gpu_prometheus.PATH
    series = gpu_prometheus.parse(await fetch(http, url, timeout_s=timeout_s, params={"query": gpu_prometheus.QUERY}))
    if series is None:
        raise NoAnswer("an answer that is none of Prometheus' query API")
    found = gpu_prometheus.gpus(series, source.host, clock.wall())
    if not found:
        raise NoAnswer("no GPU series that it knows of, or none of this minute")
    return _shown(found)


def _path(url: str, path: str) -> str:
    """The URL, with the path if it names none."""
    parts = httpx.URL(url)
    return url if parts.path not in ("", "/") else str(parts.copy_with(path=path))


class GpuTelemetry:
    """Asks every source each `interval_s`. `count` hears the kind of a source that failed, or showed nonsense."""

    def __init__(
        self,
        sources: Sequence[Source],
        http: httpx.AsyncClient,
        board: Board,
        gpus: Gpus,
        clock: Clock,
        *,
        interval_s: float,
        count: Callable[[str], object],
        timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._board = board
        self._gpus = gpus
        self._clock = clock
        self._silent = set(sources)
        self._blind: set[Source] = set()
        self._reads = {source: reader(source, http, clock, timeout_s=timeout_s) for source in sources}
        self._loops = [
            Loop(
                f"GPU source {source}",
                partial(self.ask, source),
                clock,
                interval_s=interval_s,
                count=partial(count, source.kind),
                sleep=sleep,
            )
            for source in sources
        ]

    def __repr__(self) -> str:
        return f"<GpuTelemetry of {len(self._loops)} sources>"

    async def run(self) -> None:
        """Ask until cancelled; one that is slow or dead delays no other."""
        async with anyio.create_task_group() as group:
            for loop in self._loops:
                group.start_soon(loop.run)

    async def ask(self, source: Source) -> str | None:
        """Read one source into `Gpus`; what is wrong with what it shows. Raises `NoAnswer`."""
        shown = await self._reads[source]()
        self._gpus.look(str(source), shown.gpus, self._clock.monotonic())
        self._tell_missing(source)
        if shown.wrong is None and source not in self._blind and tells_no_reasons(shown.gpus):
            self._blind.add(source)
            log.warning(
                "GPU source %s shows no reasons for low clocks: no throttling is seen; see gateway check", source
            )
        return shown.wrong

    def _tell_missing(self, source: Source) -> None:
        """Once all sources have answered: which GPUs of the config none of them shows. Told once."""
        if source not in self._silent:
            return
        self._silent.remove(source)
        for view in () if self._silent else self._board.current.replicas:
            for name in self._gpus.missing(view.replica.gpus):
                log.warning("replica %s: no GPU source shows its GPU %s", view.id, name)


def tells_no_reasons(found: Sequence[GpuSample]) -> bool:
    """Whether a source shows GPUs, and of none of them why its clock is low."""
    return bool(found) and all(sample.reasons is None and not sample.recent and not sample.totals for sample in found)
