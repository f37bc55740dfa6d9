"""When people are told that a replica is slow: not for a moment, and once."""

from gateway.core.types import FleetSnapshot, ReplicaId, ReplicaView, Slowdown

SLOW_RATIO = 1.3
"""Slow-down above which a replica is worth a look; below, it is noise or another batch size."""

SLOW_FOR_S = 3.0
"""Longer than any burst; shorter than it takes to open the dashboard."""


def worst(slowdown: Slowdown) -> float:
    """Prefill's or decode's."""
    return max(slowdown.prefill, slowdown.decode)


def slow_ratio(view: ReplicaView) -> float | None:
    """The worst of a replica's slow-downs, as routing uses them; `None` while none is known."""
    return None if view.slowdown is None else worst(view.slowdown)


class SlowAlarm:
    """Remembers what was told of each replica, and since when it has been otherwise."""

    def __init__(self) -> None:
        self._since: dict[ReplicaId, float] = {}
        self._told: set[ReplicaId] = set()

    def look(self, fleet: FleetSnapshot, now: float) -> list[tuple[ReplicaView, bool]]:
        """The replicas that people should hear of now, with whether they are slow, or no longer."""
        here = {view.id for view in fleet.replicas}
        slow = {view.id for view in fleet.replicas if (slow_ratio(view) or 0.0) > SLOW_RATIO}
        self._told &= here
        # Those that are as they were told have no time; the others have been otherwise since then.
        self._since = {replica: self._since.get(replica, now) for replica in slow ^ self._told}
        changed = {replica for replica, since in self._since.items() if now - since >= SLOW_FOR_S}
        self._told ^= changed
        return [(view, view.id in self._told) for view in fleet.replicas if view.id in changed]
