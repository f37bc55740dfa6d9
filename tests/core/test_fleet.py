"""The fleet's snapshot: what each reading makes of each state."""

import pytest

from gateway.core.fleet import Board, fold
from gateway.core.types import (
    FleetSnapshot,
    ModelsReading,
    OutcomeReading,
    Reading,
    Replica,
    ReplicaId,
    ReplicaState,
    ReplicaView,
)

R0, R1 = ReplicaId("r0"), ReplicaId("r1")
GOOD = ModelsReading(R0, frozenset({"m"}))
EMPTY = ModelsReading(R0, frozenset())
BAD = ModelsReading(R0, None)
REFUSED = OutcomeReading(R0, reachable=False)
REACHED = OutcomeReading(R0, reachable=True)

READY, WARMING, SUSPECT, EJECTED, DRAINING = (
    ReplicaState.READY,
    ReplicaState.WARMING,
    ReplicaState.SUSPECT,
    ReplicaState.EJECTED,
    ReplicaState.DRAINING,
)


def view(state: ReplicaState = SUSPECT, failures: int = 0, name: ReplicaId = R0) -> ReplicaView:
    return ReplicaView(Replica(name, f"http://{name}:8000"), state, frozenset({"old"}), failures, seen_at=1.0)


def folded(before: ReplicaView, *readings: Reading, fall: int = 3) -> ReplicaView:
    snapshot = FleetSnapshot((before,))
    for reading in readings:
        snapshot = fold(snapshot, reading, 5.0, fall=fall)
    return snapshot.replicas[0]


@pytest.mark.parametrize(
    ("state", "failures", "reading", "then", "count"),
    [
        (SUSPECT, 2, GOOD, READY, 0),
        (SUSPECT, 0, EMPTY, READY, 0),
        (EJECTED, 9, GOOD, READY, 0),
        (READY, 0, GOOD, READY, 0),
        (WARMING, 0, GOOD, WARMING, 0),
        (DRAINING, 1, GOOD, DRAINING, 0),
        (READY, 0, BAD, SUSPECT, 1),
        (SUSPECT, 1, BAD, SUSPECT, 2),
        (SUSPECT, 2, BAD, EJECTED, 3),
        (EJECTED, 3, BAD, EJECTED, 4),
        (EJECTED, 1, BAD, EJECTED, 2),
        (WARMING, 0, BAD, SUSPECT, 1),
        (DRAINING, 5, BAD, DRAINING, 6),
        (READY, 0, REFUSED, SUSPECT, 0),
        (READY, 0, REACHED, READY, 0),
        (SUSPECT, 2, REACHED, SUSPECT, 2),
        (WARMING, 0, REFUSED, WARMING, 0),
        (EJECTED, 3, REFUSED, EJECTED, 3),
        (DRAINING, 0, REFUSED, DRAINING, 0),
    ],
)
def test_each_state_and_reading(
    state: ReplicaState, failures: int, reading: Reading, then: ReplicaState, count: int
) -> None:
    """A good probe readies, `fall` bad ones eject, a refused request casts doubt; drain and warm-up are not ended."""
    after = folded(view(state, failures), reading)
    assert (after.state, after.failures) == (then, count)


def test_a_good_probe_tells_models_and_time() -> None:
    """The new models replace the old ones, and `seen_at` is now."""
    after = folded(view(), GOOD)
    assert (after.models, after.seen_at) == (frozenset({"m"}), 5.0)


def test_a_bad_probe_keeps_what_was_known() -> None:
    """A replica that fails is still known to serve its models, and when it last answered."""
    after = folded(view(READY), BAD, BAD, BAD, BAD)
    assert (after.state, after.models, after.seen_at) == (EJECTED, frozenset({"old"}), 1.0)


def test_a_replica_that_never_answered_knows_nothing() -> None:
    """Unknown is None, not empty."""
    after = folded(ReplicaView(Replica(R0, "http://r0:8000")), BAD)
    assert (after.models, after.seen_at) == (None, None)


@pytest.mark.parametrize(("fall", "state"), [(1, EJECTED), (2, SUSPECT)])
def test_fall_is_the_number_of_failures_that_eject(fall: int, state: ReplicaState) -> None:
    """With fall 1, the first failure ejects."""
    assert folded(view(READY), BAD, fall=fall).state is state


def test_a_reading_touches_its_own_replica_only() -> None:
    """The others stay the same objects."""
    other = view(READY, name=R1)
    after = fold(FleetSnapshot((other, view())), GOOD, 5.0)
    assert after.replicas[0] is other
    assert after.replicas[1].state is READY


def test_a_reading_of_a_replica_that_left_changes_nothing() -> None:
    """It may still have been under way."""
    before = FleetSnapshot((view(name=R1),))
    assert fold(before, GOOD, 5.0) == before


def test_the_board_publishes_a_new_snapshot_and_leaves_the_old() -> None:
    """A decision that holds the old snapshot is not disturbed."""
    before = FleetSnapshot((view(),))
    board = Board(before)
    board.fold(GOOD, 5.0)
    assert before.replicas[0].state is SUSPECT
    assert board.current.replicas[0].state is READY
    board.publish(before)
    assert board.current is before
