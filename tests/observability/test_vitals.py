"""What engines tell of themselves, as Prometheus sees it."""

from dataclasses import replace

from gateway.core.fleet import Board
from gateway.core.types import EngineView, FleetSnapshot, Replica, ReplicaId, ReplicaView, Slowdown
from gateway.core.vitals import EngineFigures, GpuView, Reason
from gateway.observability.vitals import SHOWN, Vitals

FIGURES = EngineFigures(kv_usage_ratio=0.95, running=3, waiting=0, preemptions=7)
NEW = ReplicaView(Replica(ReplicaId("r0"), "http://r0"))


def shown(view: ReplicaView, now: float) -> dict[str, float]:
    """Series name -> value, for a fleet of this one."""
    families = Vitals(Board(FleetSnapshot((view,))), lambda: now).collect()
    return {sample.name: sample.value for family in families for sample in family.samples}


def series(view: ReplicaView) -> dict[tuple[str, ...], float]:
    """Series name and label values after the replica's -> value."""
    families = Vitals(Board(FleetSnapshot((view,))), lambda: 9.0).collect()
    return {
        (sample.name, *list(sample.labels.values())[1:]): sample.value
        for family in families
        for sample in family.samples
    }


def test_gpus_and_slow_downs() -> None:
    """Each reason that matters by itself; the age is that of the oldest reading; by who says how slow it is."""
    hot = GpuView("n:0", "dcgm", 5.0, temp_c=90.0, power_w=400.0, reasons=frozenset({Reason.SW_THERMAL}), slowdown=1.6)
    told = replace(
        NEW,
        gpus=(hot, GpuView("n:1", "dcgm", 4.0), GpuView("n:2")),
        learned=Slowdown(1.2, 1.4),
        slowdown=Slowdown(1.6, 1.6),
    )
    assert series(told) == {
        ("gateway_telemetry_age_seconds", "gpu"): 5.0,
        ("gateway_replica_slowdown_ratio", "gpu"): 1.6,
        ("gateway_replica_slowdown_ratio", "learned"): 1.4,
        ("gateway_replica_slowdown_ratio", "used"): 1.6,
        ("gateway_gpu_temperature_celsius", "n:0"): 90.0,
        ("gateway_gpu_power_watts", "n:0"): 400.0,
        **{("gateway_gpu_throttled", "n:0", reason.value): float(reason is Reason.SW_THERMAL) for reason in SHOWN},
    }


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
