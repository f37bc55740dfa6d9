"""What the dashboard polls, once a second. `null` is "not known", and the page shows it as a dash."""

import msgspec

from gateway.api.reloads import ReloadRow
from gateway.api.vitals import EngineRow, GpuRow, SlowdownRow, engine_row, gpu_row, slowdown_row
from gateway.core.types import ReplicaView
from gateway.observability.recent import Figures


class ReplicaRow(msgspec.Struct, frozen=True, kw_only=True):
    """One replica; durations in seconds, rates per second over the last minute."""

    name: str
    url: str
    state: str
    models: list[str] | None
    in_flight: int | None
    requests: int | None
    failures: int | None
    requests_per_s: float | None
    tokens_per_s: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tpot_p50_s: float | None
    engine: EngineRow | None = None
    slowdown: SlowdownRow | None = None
    gpus: list[GpuRow] = []
    gpu_lost: bool | None = None


def replica_row(view: ReplicaView, in_flight: int, figures: Figures, now: float) -> ReplicaRow:
    """`figures`: of the last minute. `now`: monotonic seconds."""
    return ReplicaRow(
        name=view.id,
        url=view.replica.url,
        state=view.state.value,
        models=sorted(view.models) if view.models is not None else None,
        in_flight=in_flight,
        requests=figures.requests,
        failures=figures.failures,
        requests_per_s=figures.requests_per_s,
        tokens_per_s=figures.tokens_per_s,
        ttft_p50_s=figures.ttft_p50_s,
        ttft_p95_s=figures.ttft_p95_s,
        tpot_p50_s=figures.tpot_p50_s,
        engine=engine_row(view, now),
        slowdown=slowdown_row(view),
        gpus=[gpu_row(gpu, now) for gpu in view.gpus],
        gpu_lost=view.gpu_lost,
    )


class DashboardState(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway at one moment."""

    version: str
    policy: str
    uptime_s: float
    draining: bool
    in_flight: int | None
    requests: int | None
    failures: int | None
    requests_per_s: float | None
    tokens_per_s: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    replicas: list[ReplicaRow]
    reload: ReloadRow | None = None
