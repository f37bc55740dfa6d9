"""What engines tell of themselves, as Prometheus sees it."""

from dataclasses import replace

from gateway.core.fleet import Board
from gateway.core.types import EngineView, FleetSnapshot, Replica, ReplicaId, ReplicaView
from gateway.core.vitals import EngineFigures
from gateway.observability.vitals import Vitals

FIGURES = EngineFigures(kv_usage_ratio=0.95, running=3, waiting=0, preemptions=7)
NEW = ReplicaView(Replica(ReplicaId("r0"), "http://r0"))


def shown(view: ReplicaView, now: float) -> dict[str, float]:
    """Series name -> value, for a fleet of this one."""
    families = Vitals(Board(FleetSnapshot((view,))), lambda: now).collect()
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_what_is_not_known_has_no_line() -> None:
    """A replica that never told has none; one whose readings are old has their age."""
    told = replace(NEW, engine=EngineView(5.0, None, FIGURES))
    assert shown(NEW, 9.0) == {}
    assert shown(told, 9.0) == {"gateway_telemetry_age_seconds": 4.0}


def test_what_is_known() -> None:
    """Figures that the engine does not show are left out, the others are there."""
    told = replace(NEW, engine=EngineView(5.0, FIGURES, FIGURES))
    assert shown(told, 5.5) == {
        "gateway_telemetry_age_seconds": 0.5,
        "gateway_replica_kv_usage_ratio": 0.95,
        "gateway_replica_running_requests": 3,
        "gateway_replica_waiting_requests": 0,
        "gateway_replica_preemptions_total": 7,
        "gateway_replica_kv_pressure": 1,
    }
    bare = EngineFigures(running=1)
    assert shown(replace(NEW, engine=EngineView(5.0, bare, bare)), 5.0) == {
        "gateway_telemetry_age_seconds": 0.0,
        "gateway_replica_running_requests": 1,
        "gateway_replica_kv_pressure": 0,
    }
