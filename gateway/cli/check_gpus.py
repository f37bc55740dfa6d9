"""The part of `gateway check` that asks GPU sources: which replica's GPU is shown by whom, and what is missing."""

from collections.abc import Iterator

import anyio
import httpx
import msgspec

from gateway.cli.table import table
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.core.gpu import BAD, Gpus
from gateway.core.vitals import GpuView
from gateway.telemetry.gpu import Shown, Source, reader, tells_no_reasons
from gateway.telemetry.gpu_dcgm import CSV_LINES
from gateway.telemetry.poller import NoAnswer

SOURCE_HEADS = ("GPU SOURCE", "STATE", "GPUS", "REASONS", "PROBLEM")
GPU_HEADS = ("REPLICA", "GPU", "SOURCE", "TEMPERATURE", "CLOCK", "THROTTLED BY")


class SourceFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What one source answered. `reasons`: whether it tells why clocks are low; `null` where it shows no GPU."""

    source: str
    state: str
    gpus: int | None = None
    reasons: bool | None = None
    problem: str | None = None
    add_to_counters: list[str] = []


class GpuFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU that the config names, and who shows it; `source` is `null` for one that nobody shows."""

    replica: str
    gpu: str
    source: str | None
    temp_c: float | None
    clock_mhz: float | None
    throttled_by: list[str] | None
    slowdown: float | None


class GpuReport(msgspec.Struct, frozen=True, kw_only=True):
    sources: list[SourceFinding] = []
    gpus: list[GpuFinding] = []

    @property
    def fine(self) -> bool:
        """Every source answered, and shows every GPU that is named; without sources nothing is expected."""
        shown = all(gpu.source is not None for gpu in self.gpus) or not self.sources
        return shown and all(source.state == "ok" for source in self.sources)


async def look_at_gpus(config: Config, http: httpx.AsyncClient, timeout_s: float) -> GpuReport:
    """Ask all sources at once; findings in the config's order."""
    sources = [
        Source(kind, url, entry.host) for entry in config.telemetry.gpu.sources for kind, url in entry.kinds.items()
    ]
    clock = SystemClock()
    gpus = Gpus(stale_after_s=config.telemetry.gpu.stale_after_s)
    found: dict[Source, SourceFinding] = {}

    async def ask(source: Source) -> None:
        try:
            shown = await reader(source, http, clock, timeout_s=timeout_s)()
        except NoAnswer as error:
            found[source] = SourceFinding(source=str(source), state="wrong", problem=str(error))
            return
        gpus.look(str(source), shown.gpus, clock.monotonic())
        found[source] = _source(source, shown)

    async with anyio.create_task_group() as group:
        for source in sources:
            group.start_soon(ask, source)
    rows = [_gpu(entry.id, view) for entry in config.replicas for view in gpus.views(entry.gpus, clock.monotonic())]
    return GpuReport(sources=[found[source] for source in sources], gpus=rows)


def _source(source: Source, shown: Shown) -> SourceFinding:
    blind = tells_no_reasons(shown.gpus)
    return SourceFinding(
        source=str(source),
        state="wrong" if shown.wrong else "ok",
        gpus=len(shown.gpus),
        reasons=not blind,
        problem=shown.wrong,
        add_to_counters=list(CSV_LINES) if blind and source.kind == "dcgm" else [],
    )


def _gpu(replica: str, view: GpuView) -> GpuFinding:
    return GpuFinding(
        replica=replica,
        gpu=view.name,
        source=view.source,
        temp_c=view.temp_c,
        clock_mhz=view.clock_mhz,
        throttled_by=None if view.reasons is None else sorted(view.reasons & BAD),
        slowdown=view.slowdown,
    )


def gpu_text(report: GpuReport) -> Iterator[str]:
    """Two tables and what is to be done; nothing where the config has neither GPUs nor sources."""
    if report.sources:
        yield ""
        yield table(SOURCE_HEADS, [_source_row(source) for source in report.sources])
    if report.gpus:
        yield ""
        yield table(GPU_HEADS, [_gpu_row(gpu) for gpu in report.gpus])
    if report.gpus and not report.sources:
        yield "note: telemetry.gpu.sources is empty: no GPU is looked at"
    for source in report.sources:
        if source.reasons is False:
            yield from ("", *_advice(source))


def _source_row(source: SourceFinding) -> tuple[str, ...]:
    reasons = {None: "-", True: "yes", False: "no"}[source.reasons]
    return source.source, source.state, _or_dash(source.gpus), reasons, source.problem or ""


def _gpu_row(gpu: GpuFinding) -> tuple[str, ...]:
    throttled = "-" if gpu.throttled_by is None else ",".join(gpu.throttled_by) or "nothing"
    return (
        gpu.replica,
        gpu.gpu,
        gpu.source or "no source shows it",
        _or_dash(gpu.temp_c, " °C"),
        _or_dash(gpu.clock_mhz, " MHz"),
        throttled,
    )


def _advice(source: SourceFinding) -> Iterator[str]:
    yield f"{source.source} does not tell why clocks are low: throttling will not be seen."
    if source.add_to_counters:
        yield "dcgm-exporter leaves it out by default. Add these lines to its counters (-f FILE.csv), and"
        yield "let it collect each second (-c 1000; by default it does so each 30 s):"
        yield from (f"  {line}" for line in source.add_to_counters)


def _or_dash(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:g}{unit}"
