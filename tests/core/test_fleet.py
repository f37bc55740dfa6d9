"""The fleet's snapshot: what each reading makes of it."""

import pytest

from gateway.core.fleet import Board, fold
from gateway.core.health import Rules
from gateway.core.types import (
    Condition,
    FleetSnapshot,
    HealthReading,
    ModelsReading,
    Reading,
    Replica,
    ReplicaId,
    ReplicaState,
    ReplicaView,
    Sign,
)

R0, R1 = ReplicaId("r0"), ReplicaId("r1")
GOOD = ModelsReading(R0, frozenset({"m"}))
EMPTY = ModelsReading(R0, frozenset())
BAD = ModelsReading(R0, None)

USUAL = Rules()
READY, WARMING, SUSPECT, EJECTED, DRAINING = ReplicaState


def view(state: ReplicaState = SUSPECT, name: ReplicaId = R0) -> ReplicaView:
    return ReplicaView(Replica(name, f"http://{name}:8000"), state, frozenset({"old"}), seen_at=1.0)


def folded(before: ReplicaView, *readings: Reading, rules: Rules = USUAL) -> ReplicaView:
    snapshot = FleetSnapshot((before,))
    for reading in readings:
        snapshot = fold(snapshot, reading, 5.0, rules)
    return snapshot.replicas[0]


@pytest.mark.parametrize("sign", Sign)
def test_a_sign_is_handed_on(sign: Sign) -> None:
    """What it means is `core/health.py`'s."""
    after = folded(view(), HealthReading(R0, sign))
    assert after.state is {Sign.ANSWERED: READY, Sign.SERVED: READY, Sign.REFUSED: EJECTED, Sign.GPU_LOST: EJECTED}.get(
        sign, DRAINING if sign is Sign.DRAIN else SUSPECT
    )


def test_a_probe_is_a_sign() -> None:
    """With the models, it answered; without, it did not."""
    assert folded(view(), EMPTY).state is READY
    assert folded(view(), BAD).condition == Condition(failures=1)
    assert folded(view(), BAD, BAD, BAD).state is EJECTED


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


def test_a_reading_touches_its_own_replica_only() -> None:
    """The others stay the same objects, in their places."""
    one, two = view(READY, ReplicaId("one")), view(READY, R1)
    after = fold(FleetSnapshot((one, view(), two)), GOOD, 5.0)
    assert after.replicas[0] is one
    assert after.replicas[1].state is READY
    assert after.replicas[2] is two


@pytest.mark.parametrize(
    ("snapshot", "reading"),
    [
        (FleetSnapshot((view(name=R1),)), GOOD),
        (FleetSnapshot((view(READY),)), HealthReading(R0, Sign.SERVED)),
    ],
)
def test_what_changes_nothing_is_the_same_snapshot(snapshot: FleetSnapshot, reading: Reading) -> None:
    """A reading of a replica that has left, which may still have been under way; a request that went as usual."""
    assert fold(snapshot, reading, 5.0) is snapshot


def test_the_board_publishes_a_new_snapshot_and_leaves_the_old() -> None:
    """A decision that holds the old snapshot is not disturbed."""
    before = FleetSnapshot((view(),))
    board = Board(before)
    board.fold(GOOD, 5.0)
    assert before.replicas[0].state is SUSPECT
    assert board.current.replicas[0].state is READY
    board.publish(before)
    assert board.current is before


@pytest.mark.parametrize(("fall", "state"), [(1, EJECTED), (2, SUSPECT)])
def test_the_board_has_the_rules(fall: int, state: ReplicaState) -> None:
    """For readings of all kinds, whoever tells them."""
    board = Board(FleetSnapshot((view(READY),)), Rules(fall=fall))
    board.fold(HealthReading(R0, Sign.BROKEN), 5.0)
    assert board.current.replicas[0].state is state


def test_each_reading_finds_its_replica() -> None:
    """Fold upon fold, and after the fleet has changed; one that has left changes nothing."""
    snapshot = FleetSnapshot((view(), view(name=R1)))
    for reading in (ModelsReading(R1, frozenset({"b"})), GOOD, ModelsReading(R1, frozenset({"c"}))):
        snapshot = fold(snapshot, reading, 5.0)
    assert [(one.id, one.models) for one in snapshot.replicas] == [(R0, frozenset({"m"})), (R1, frozenset({"c"}))]
    alone = FleetSnapshot(snapshot.replicas[1:])
    assert fold(alone, EMPTY, 6.0) is alone
    assert fold(alone, ModelsReading(R1, frozenset({"d"})), 6.0).replicas[0].models == frozenset({"d"})
