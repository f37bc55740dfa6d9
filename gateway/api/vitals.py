"""How the dashboard's figures show what engines and GPUs tell of themselves."""

import msgspec

from gateway.core.pressure import pressure
from gateway.core.types import ReplicaView


class EngineRow(msgspec.Struct, frozen=True, kw_only=True):
    """A replica's own metrics; each figure `null` while unknown. `preemptions`: since the engine began.

    `kv_pressure`: why its KV cache is short of room, `preempting`, `waiting` or `full`; `null` if it is not.
    """

    age_s: float
    kv_usage_ratio: float | None = None
    kv_capacity_tokens: int | None = None
    kv_pressure: str | None = None
    running: int | None = None
    waiting: int | None = None
    preemptions: int | None = None
    prefix_queried_tokens: int | None = None
    prefix_hit_tokens: int | None = None


def engine_row(view: ReplicaView, now: float) -> EngineRow | None:
    """`None` while the engine has never told; only the age where what it told is too old."""
    engine = view.engine
    if engine is None:
        return None
    age_s, figures = round(now - engine.at, 3), engine.figures
    if figures is None:
        return EngineRow(age_s=age_s)
    return EngineRow(
        age_s=age_s,
        kv_usage_ratio=figures.kv_usage_ratio,
        kv_capacity_tokens=figures.kv_capacity_tokens,
        kv_pressure=pressure(view, now),
        running=figures.running,
        waiting=figures.waiting,
        preemptions=figures.preemptions,
        prefix_queried_tokens=figures.prefix_queried_tokens,
        prefix_hit_tokens=figures.prefix_hit_tokens,
    )
