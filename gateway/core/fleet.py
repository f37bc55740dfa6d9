"""How readings become the fleet's snapshot, and where the newest one hangs."""

from dataclasses import replace
from typing import assert_never

from gateway.core.health import Rules, step
from gateway.core.pressure import told
from gateway.core.types import EngineReading, FleetSnapshot, HealthReading, ModelsReading, Reading, ReplicaView, Sign

_USUAL = Rules()


def fold(snapshot: FleetSnapshot, reading: Reading, now: float, rules: Rules = _USUAL) -> FleetSnapshot:
    """The snapshot after one more reading: the same object if it changes nothing, as one of a replica that has left."""
    places = snapshot.places
    if not places:
        places.update({view.id: place for place, view in enumerate(snapshot.replicas)})
    place = places.get(reading.replica)
    if place is None:
        return snapshot
    view = snapshot.replicas[place]
    after = _fold_one(view, reading, now, rules)
    if after is view:
        return snapshot
    replicas = list(snapshot.replicas)
    replicas[place] = after
    return FleetSnapshot(tuple(replicas), places)


def _fold_one(view: ReplicaView, reading: Reading, now: float, rules: Rules) -> ReplicaView:
    match reading:
        case HealthReading(sign=sign, of=of):  # first: each request brings one
            if of is not None and of is not view.replica and of.identity != view.replica.identity:
                return view
            return _told(view, sign, now, rules)
        case ModelsReading(models=None):
            return _told(view, Sign.UNANSWERED, now, rules)
        case ModelsReading(models=models, parents=parents):
            answered = _told(view, Sign.ANSWERED, now, rules)
            return replace(answered, models=models, parents=parents, seen_at=now)
        case EngineReading():
            return told(view, reading, now)
        case _:
            assert_never(reading)


def _told(view: ReplicaView, sign: Sign, now: float, rules: Rules) -> ReplicaView:
    state, condition = step(view.state, view.condition, sign, now, rules)
    if state is view.state and condition is view.condition:
        return view
    return replace(view, state=state, condition=condition)


class Board:
    """Holds the newest snapshot. One assignment publishes it; readers take `current` once per decision."""

    __slots__ = ("_rules", "current")

    def __init__(self, snapshot: FleetSnapshot, rules: Rules = _USUAL) -> None:
        self.current = snapshot
        self._rules = rules

    def publish(self, snapshot: FleetSnapshot) -> None:
        self.current = snapshot

    def fold(self, reading: Reading, now: float) -> None:
        """Publish the current snapshot with one more reading. Nothing yields in between."""
        self.current = fold(self.current, reading, now, self._rules)
