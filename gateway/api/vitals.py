"""How the dashboard's figures show what engines and GPUs tell of themselves."""

import msgspec

from gateway.core.alarm import slow_ratio, worst
from gateway.core.gpu import BAD, slowest
from gateway.core.pressure import pressure
from gateway.core.types import ReplicaView
from gateway.core.vitals import GpuView


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


class SlowdownRow(msgspec.Struct, frozen=True, kw_only=True):
    """How many times slower than nominal it works, by who says so; the worse of prefill and decode. 1: not slower."""

    gpu: float | None
    learned: float | None
    used: float | None


class GpuRow(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU of a replica. `throttled_by`: the bad reasons at work; `null` while no source tells reasons."""

    name: str
    source: str | None
    age_s: float | None
    temp_c: float | None
    memory_temp_c: float | None
    power_w: float | None
    clock_mhz: float | None
    throttled_by: list[str] | None
    slowdown: float | None
    lost: bool | None


def slowdown_row(view: ReplicaView) -> SlowdownRow:
    learned = None if view.learned is None else worst(view.learned)
    return SlowdownRow(gpu=slowest(view.gpus), learned=learned, used=slow_ratio(view))


def gpu_row(gpu: GpuView, now: float) -> GpuRow:
    return GpuRow(
        name=gpu.name,
        source=gpu.source,
        age_s=None if gpu.at is None else round(now - gpu.at, 3),
        temp_c=gpu.temp_c,
        memory_temp_c=gpu.memory_temp_c,
        power_w=gpu.power_w,
        clock_mhz=gpu.clock_mhz,
        throttled_by=None if gpu.reasons is None else sorted(gpu.reasons & BAD),
        slowdown=gpu.slowdown,
        lost=gpu.lost,
    )


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
