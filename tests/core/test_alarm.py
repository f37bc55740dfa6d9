"""A replica that is slow for some seconds is told of once, and so is the end of it."""

from gateway.core.alarm import SLOW_FOR_S, SlowAlarm, slow_ratio
from gateway.core.types import FleetSnapshot, Replica, ReplicaId, ReplicaView, Slowdown


def fleet(slowdown: Slowdown | None) -> FleetSnapshot:
    return FleetSnapshot((ReplicaView(Replica(ReplicaId("r0"), "http://x"), slowdown=slowdown),))


def test_it_takes_a_while_and_is_told_once() -> None:
    """A moment is nothing, either way; unknown is not slow; a replica that left is not told of."""
    alarm = SlowAlarm()
    slow, fine, unknown = fleet(Slowdown(1.0, 1.31)), fleet(Slowdown(1.3, 1.0)), fleet(None)
    assert alarm.look(slow, 0.0) == []
    assert alarm.look(fine, 2.9) == []
    assert alarm.look(slow, 3.0) == []
    assert alarm.look(slow, 5.9) == []
    assert alarm.look(slow, 3.0 + SLOW_FOR_S) == [(slow.replicas[0], True)]
    assert alarm.look(slow, 99.0) == []
    assert alarm.look(unknown, 100.0) == []
    assert alarm.look(slow, 101.0) == []
    assert alarm.look(unknown, 102.0) == []
    assert alarm.look(unknown, 102.0 + SLOW_FOR_S) == [(unknown.replicas[0], False)]
    assert alarm.look(unknown, 106.0) == []
    alarm.look(slow, 110.0)
    assert alarm.look(slow, 113.0) == [(slow.replicas[0], True)]
    assert alarm.look(FleetSnapshot(), 114.0) == []
    assert alarm.look(fine, 120.0) == []


def test_the_worse_of_both() -> None:
    """Prefill or decode."""
    assert slow_ratio(fleet(Slowdown(2.0, 1.0)).replicas[0]) == 2.0
    assert slow_ratio(fleet(None).replicas[0]) is None
