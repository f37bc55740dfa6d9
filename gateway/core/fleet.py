"""How readings become the fleet's snapshot, and where the newest one hangs."""

from dataclasses import replace
from typing import assert_never

from gateway.core.pressure import told
from gateway.core.types import (
    EngineReading,
    FleetSnapshot,
    ModelsReading,
    OutcomeReading,
    Reading,
    ReplicaState,
    ReplicaView,
)

FALL = 3
"""Failed probes in a row after which a replica is ejected, unless the config says otherwise (nginx and HAProxy: 3)."""


_HELD = frozenset({ReplicaState.WARMING, ReplicaState.DRAINING})
"""States that others began and that a good probe does not end: the warm-up, and whoever asked for the drain."""


def fold(snapshot: FleetSnapshot, reading: Reading, now: float, *, fall: int = FALL) -> FleetSnapshot:
    """The snapshot after one more reading. A reading of a replica that has left the fleet changes nothing.

    Only a drain survives failures: such a replica is never asked, not even when nobody else is left.
    """
    replicas = tuple(
        _fold_one(view, reading, now, fall) if view.id == reading.replica else view for view in snapshot.replicas
    )
    return FleetSnapshot(replicas)


def _fold_one(view: ReplicaView, reading: Reading, now: float, fall: int) -> ReplicaView:
    match reading:
        case ModelsReading(models=None):
            failures = view.failures + 1
            return replace(view, failures=failures, state=_fallen(view.state, failures, fall))
        case ModelsReading(models=models):
            state = view.state if view.state in _HELD else ReplicaState.READY
            return replace(view, models=models, failures=0, state=state, seen_at=now)
        case OutcomeReading(reachable=False) if view.state is ReplicaState.READY:
            return replace(view, state=ReplicaState.SUSPECT)
        case OutcomeReading():
            return view
        case EngineReading():
            return told(view, reading, now)
        case _:
            assert_never(reading)


def _fallen(state: ReplicaState, failures: int, fall: int) -> ReplicaState:
    if state is ReplicaState.DRAINING:
        return state
    # An ejected replica stays out, also when `fall` has been raised since.
    ejected = state is ReplicaState.EJECTED or failures >= fall
    return ReplicaState.EJECTED if ejected else ReplicaState.SUSPECT


class Board:
    """Holds the newest snapshot. One assignment publishes it; readers take `current` once per decision."""

    __slots__ = ("current",)

    def __init__(self, snapshot: FleetSnapshot) -> None:
        self.current = snapshot

    def publish(self, snapshot: FleetSnapshot) -> None:
        self.current = snapshot

    def fold(self, reading: Reading, now: float, *, fall: int = FALL) -> None:
        """Publish the current snapshot with one more reading. Nothing yields in between."""
        self.current = fold(self.current, reading, now, fall=fall)
