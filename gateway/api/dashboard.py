"""What the dashboard polls, once a second. `null` is "not known", and the page shows it as a dash."""

import msgspec

from gateway.api.vitals import EngineRow


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
