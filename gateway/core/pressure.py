"""What a look at a replica's engine changes in its view: KV cache, restarts, and whether it is short of room."""

from dataclasses import replace
from enum import StrEnum

from gateway.core.types import EngineReading, EngineView, KvCache, ReplicaView
from gateway.core.vitals import EngineFigures

FULL_RATIO = 0.9
"""KV cache usage above which a replica is shown as full (llm-d's scheduler counts it as pressure)."""

PREEMPTED_FOR_S = 10.0
"""How long one preemption is shown: long enough to be seen by people who look each few seconds."""

SAME_START_S = 1.0
"""Start times that differ by less are the same: some exporters round."""


class Pressure(StrEnum):
    """Why a replica is short of KV cache; the worst is the first."""

    PREEMPTING = "preempting"
    WAITING = "waiting"
    FULL = "full"


def told(view: ReplicaView, reading: EngineReading, now: float) -> ReplicaView:
    """The view after one more look at its engine."""
    figures, before = reading.figures, view.engine
    restarts = before.restarts if before else 0
    preempted_at = before.preempted_at if before else None
    if before is not None:
        if restarted(before.last, figures):
            restarts += 1
        elif _rose(before.last.preemptions, figures.preemptions):
            preempted_at = now
    engine = EngineView(now, figures, figures, preempted_at, restarts)
    return replace(view, engine=engine, kv=_kv(figures, reading.held_tokens))


def _kv(figures: EngineFigures, held_tokens: int) -> KvCache | None:
    if figures.kv_capacity_tokens is None or figures.kv_usage_ratio is None:
        return None
    return KvCache(figures.kv_capacity_tokens, figures.kv_usage_ratio, held_tokens)


def restarted(before: EngineFigures, after: EngineFigures) -> bool:
    """Whether another process told the second: it began at another time, or its totals have begun anew."""
    if before.started_at is not None and after.started_at is not None:
        return abs(after.started_at - before.started_at) > SAME_START_S
    return (
        _rose(after.preemptions, before.preemptions)
        or _rose(after.prefix_queried_tokens, before.prefix_queried_tokens)
        or _rose(after.prefix_hit_tokens, before.prefix_hit_tokens)
    )


def _rose(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before


def forgotten(view: ReplicaView, now: float, stale_after_s: float) -> ReplicaView:
    """The view with what the engine told taken as unknown, if that is too long ago; the same object otherwise."""
    engine = view.engine
    if engine is None or engine.figures is None or now - engine.at <= stale_after_s:
        return view
    return replace(view, engine=replace(engine, figures=None), kv=None)


def pressure(view: ReplicaView, now: float) -> Pressure | None:
    """Why the replica is short of KV cache; `None` also when that is not known.

    Requests that wait while the cache has room wait for something else: `--max-num-seqs`, or their turn.
    """
    engine = view.engine
    figures = engine.figures if engine else None
    if engine is None or figures is None:
        return None
    if engine.preempted_at is not None and now - engine.preempted_at <= PREEMPTED_FOR_S:
        return Pressure.PREEMPTING
    if figures.kv_usage_ratio is None or figures.kv_usage_ratio <= FULL_RATIO:
        return None
    return Pressure.WAITING if figures.waiting else Pressure.FULL
