"""What a look at an engine changes in a replica's view."""

from dataclasses import replace

import pytest

from gateway.core.fleet import fold
from gateway.core.pressure import PREEMPTED_FOR_S, Pressure, forgotten, pressure, restarted
from gateway.core.types import EngineReading, FleetSnapshot, KvCache, Replica, ReplicaId, ReplicaView
from gateway.core.vitals import EngineFigures

R0 = ReplicaId("r0")
NEW = ReplicaView(Replica(R0, "http://r0"))
FIGURES = EngineFigures(
    kv_usage_ratio=0.5,
    kv_capacity_tokens=1000,
    running=3,
    waiting=0,
    preemptions=2,
    prefix_queried_tokens=100,
    prefix_hit_tokens=50,
    started_at=1e9,
)


def after(*readings: tuple[float, EngineFigures]) -> ReplicaView:
    """A new replica's view after these looks."""
    snapshot = FleetSnapshot((NEW,))
    for now, figures in readings:
        snapshot = fold(snapshot, EngineReading(R0, figures, held_tokens=70), now)
    return snapshot.replicas[0]


def test_a_look_fills_the_kv_cache() -> None:
    """With K of the books at that time, which the score compares with K of now."""
    view = after((5.0, FIGURES))
    assert view.kv == KvCache(1000, 0.5, 70)
    assert view.engine is not None
    assert (view.engine.at, view.engine.restarts, view.engine.preempted_at) == (5.0, 0, None)


@pytest.mark.parametrize("missing", ["kv_usage_ratio", "kv_capacity_tokens"])
def test_half_a_kv_cache_is_none(missing: str) -> None:
    """A share of what is not known cannot be priced."""
    assert after((5.0, FIGURES), (6.0, replace(FIGURES, **{missing: None}))).kv is None


@pytest.mark.parametrize(
    ("change", "restart"),
    [
        ({}, False),
        ({"started_at": 1e9 + 0.5}, False),
        ({"started_at": 1e9 + 60}, True),
        ({"started_at": None}, False),
        ({"started_at": None, "preemptions": 0}, True),
        ({"started_at": None, "prefix_queried_tokens": 3}, True),
        ({"started_at": None, "prefix_hit_tokens": 3}, True),
        ({"started_at": None, "prefix_hit_tokens": None}, False),
        ({"started_at": None, "prefix_hit_tokens": 60}, False),
    ],
)
def test_a_restart_shows(change: dict[str, float | None], restart: bool) -> None:
    """By the time of its start, or without one (vLLM with several API processes) by totals that fell."""
    later = replace(FIGURES, **change)
    assert restarted(FIGURES, later) is restart
    engine = after((5.0, FIGURES), (6.0, later)).engine
    assert engine is not None
    assert engine.restarts == int(restart)


def test_what_is_too_old_is_unknown() -> None:
    """The capacity and the totals are kept: for the index, and to know a restart when it answers again."""
    view = after((5.0, FIGURES))
    assert forgotten(view, 8.0, 3.0) is view
    stale = forgotten(view, 8.1, 3.0)
    assert stale.kv is None
    assert stale.engine is not None
    assert (stale.engine.figures, stale.engine.last) == (None, FIGURES)
    assert forgotten(stale, 9.0, 3.0) is stale
    assert forgotten(NEW, 9.0, 3.0) is NEW
    again = fold(FleetSnapshot((stale,)), EngineReading(R0, replace(FIGURES, started_at=2e9), 0), 20.0).replicas[0]
    assert again.engine is not None
    assert (again.engine.restarts, again.engine.figures is None) == (1, False)


@pytest.mark.parametrize(
    ("usage", "waiting", "short"),
    [
        (0.9, 5, None),
        (0.91, 0, Pressure.FULL),
        (0.91, None, Pressure.FULL),
        (0.91, 1, Pressure.WAITING),
        (None, 5, None),
    ],
)
def test_short_of_room(usage: float | None, waiting: int | None, short: Pressure | None) -> None:
    """Requests wait for KV cache only where it is full."""
    view = after((5.0, replace(FIGURES, kv_usage_ratio=usage, waiting=waiting)))
    assert pressure(view, 5.0) is short


def test_a_preemption_shows_for_a_while() -> None:
    """Also when the cache has room again; not those from before we looked, nor those before a restart."""
    view = after((5.0, FIGURES), (6.0, replace(FIGURES, preemptions=3)), (7.0, replace(FIGURES, preemptions=3)))
    assert pressure(view, 6.0 + PREEMPTED_FOR_S) is Pressure.PREEMPTING
    assert pressure(view, 6.1 + PREEMPTED_FOR_S) is None
    assert pressure(after((5.0, FIGURES), (6.0, replace(FIGURES, preemptions=9, started_at=2e9))), 6.0) is None


def test_what_is_not_known_is_no_pressure() -> None:
    """Nor is it its absence: the figures are None beside it."""
    assert pressure(NEW, 5.0) is None
    assert pressure(forgotten(after((5.0, FIGURES)), 99.0, 3.0), 99.0) is None
