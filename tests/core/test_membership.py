"""Who belongs to the fleet, whatever is wanted in whatever order."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.fleet import fold
from gateway.core.membership import Change, departed, same_engine, wanted
from gateway.core.types import (
    FleetSnapshot,
    HealthReading,
    ModelsReading,
    Replica,
    ReplicaId,
    ReplicaState,
    ReplicaView,
    Sign,
)

READY, WARMING, SUSPECT, EJECTED, DRAINING = ReplicaState
A, B = ReplicaId("a"), ReplicaId("b")
ONE = Replica(A, "http://a:1", api_key="k")
TWO = Replica(B, "http://b:1")


def serving(*replicas: Replica) -> FleetSnapshot:
    """A fleet of replicas that have all answered."""
    snapshot = FleetSnapshot(tuple(ReplicaView(replica) for replica in replicas))
    for replica in replicas:
        snapshot = fold(snapshot, ModelsReading(replica.id, frozenset({"m"})), 1.0)
    return snapshot


def none_in_flight(_: ReplicaId) -> int:
    return 0


def states(snapshot: FleetSnapshot) -> dict[ReplicaId, ReplicaState]:
    return {view.id: view.state for view in snapshot.replicas}


def test_a_start_is_ready_with_the_first_answer() -> None:
    """Nobody has answered yet: nothing has to be proven or warmed, also of the second source that tells."""
    first = wanted(FleetSnapshot(), [ONE], 0.0)
    assert (first.joined, states(first.snapshot)) == ((A,), {A: SUSPECT})
    second = wanted(first.snapshot, [ONE, TWO], 0.1)
    assert (second.joined, states(second.snapshot)) == ((B,), {A: SUSPECT, B: SUSPECT})


def test_who_joins_a_fleet_that_serves_is_probed_and_warmed() -> None:
    """It begins as after an ejection: two good probes, then its warm-up, and only then traffic."""
    snapshot = wanted(serving(ONE), [ONE, TWO], 5.0).snapshot
    seen = [states(snapshot)[B]]
    for reading in (*[ModelsReading(B, frozenset({"m"}))] * 2, HealthReading(B, Sign.WARMED)):
        snapshot = fold(snapshot, reading, 6.0)
        seen.append(states(snapshot)[B])
    assert seen == [EJECTED, EJECTED, WARMING, READY]


@pytest.mark.parametrize("harmless", [{"gpus": ("n:0",)}, {"cost_per_hour": 4.0}])
def test_a_harmless_change_keeps_all_that_is_known(harmless: dict[str, object]) -> None:
    """State, models and telemetry stay; only the entry is the new one."""
    before = serving(ONE, TWO)
    entry = replace(ONE, **harmless)
    change = wanted(before, [entry, TWO], 5.0)
    assert change.snapshot.replicas == (replace(before.replicas[0], replica=entry), before.replicas[1])
    assert (change.joined, change.leaving, change.gone) == ((), (), ())


@pytest.mark.parametrize("other", [{"url": "http://a:2"}, {"api_key": "l"}, {"engine": "sglang"}])
def test_another_url_key_or_engine_is_another_replica(other: dict[str, str]) -> None:
    """The old one is gone and the new one has to prove itself; with only another key its models are known."""
    entry = replace(ONE, **other)
    change = wanted(serving(ONE, TWO), [entry, TWO], 5.0)
    assert (change.joined, change.gone) == ((A,), (ONE,))
    view = change.snapshot.replicas[0]
    assert (view.replica, view.state, view.seen_at) == (entry, EJECTED, None)
    assert view.models == (frozenset({"m"}) if "api_key" in other else None)


def test_who_leaves_drains_first() -> None:
    """No new requests; gone when nothing of it is in flight, or when its time is over."""
    left = wanted(serving(ONE, TWO), [TWO], 5.0)
    assert (left.leaving, left.gone, states(left.snapshot)) == ((A,), (), {B: READY, A: DRAINING})
    assert departed(left.snapshot, lambda _: 1, 14.9, 10.0) == Change(left.snapshot)
    for change in (departed(left.snapshot, none_in_flight, 5.0, 10.0), departed(left.snapshot, lambda _: 1, 15.0, 10)):
        assert (change.gone, states(change.snapshot)) == ((ONE,), {B: READY})


def test_its_time_runs_from_the_first_time_that_it_was_not_wanted() -> None:
    """A source that repeats its answer does not prolong the drain."""
    once = wanted(serving(ONE, TWO), [TWO], 5.0).snapshot
    assert wanted(once, [TWO], 9.0) == Change(once)


def test_who_is_wanted_again_before_it_has_left_stays() -> None:
    """A source that forgot it once costs it nothing."""
    before = serving(ONE, TWO)
    left = wanted(before, [TWO], 5.0).snapshot
    back = wanted(left, [ONE, TWO], 6.0)
    assert states(back.snapshot) == {A: READY, B: READY}
    assert (back.joined, back.gone) == ((), ())


def test_a_drain_by_command_outlasts_a_flapping_source() -> None:
    """Who told it to drain has not told it to resume."""
    drained = fold(serving(ONE, TWO), HealthReading(A, Sign.DRAIN), 2.0)
    back = wanted(wanted(drained, [TWO], 5.0).snapshot, [ONE, TWO], 6.0).snapshot
    assert states(back)[A] is DRAINING
    assert back.replicas[0].leaving is None


def test_one_that_never_answered_has_to_prove_itself_when_it_comes_back() -> None:
    """`resume` alone would make it ready."""
    snapshot = wanted(serving(ONE), [ONE, TWO], 2.0).snapshot
    snapshot = wanted(wanted(snapshot, [ONE], 3.0).snapshot, [ONE, TWO], 4.0).snapshot
    assert states(snapshot)[B] is EJECTED


NAMES = st.sampled_from("abcd")
ENTRIES = st.builds(
    Replica,
    NAMES.map(ReplicaId),
    st.sampled_from(["http://x:1", "http://y:1"]),
    api_key=st.sampled_from([None, "k"]),
    cost_per_hour=st.sampled_from([None, 1.0]),
)
WANTED = st.lists(ENTRIES, unique_by=lambda replica: replica.id, max_size=4)
STEPS = st.lists(
    st.one_of(WANTED, st.sets(NAMES), st.tuples(NAMES, st.sampled_from(Sign))),
    max_size=20,
)


@given(STEPS)
def test_the_fleet_is_what_is_wanted_and_what_drains(steps: list[object]) -> None:
    """After any steps: names are unique; who is wanted is there as wanted; the others drain; nothing is lost."""
    snapshot, now, now_wanted = FleetSnapshot(), 0.0, list[Replica]()
    for step in steps:
        now += 1.0
        before = {view.id: view for view in snapshot.replicas}
        match step:
            case list():
                now_wanted = step
                change = wanted(snapshot, step, now)
            case set():
                busy = step
                change = departed(snapshot, lambda name: name in busy, now, 5.0)  # noqa: B023  # called at once
            case (name, sign):
                change = Change(fold(snapshot, HealthReading(ReplicaId(name), sign), now))
        after = {view.id: view for view in change.snapshot.replicas}
        assert len(after) == len(change.snapshot.replicas)
        assert {view.replica for view in after.values() if view.leaving is None} == set(now_wanted)
        assert {replica.id for replica in change.gone} == {
            name
            for name, view in before.items()
            if name not in after or not same_engine(view.replica, after[name].replica)
        }
        for name in before.keys() & after.keys():
            if after[name].replica == before[name].replica and before[name].leaving is after[name].leaving:
                assert isinstance(step, tuple) or after[name] is before[name]
        snapshot = change.snapshot
    settled = departed(wanted(snapshot, now_wanted, now).snapshot, none_in_flight, now, 5.0).snapshot
    assert [view.replica for view in settled.replicas] == now_wanted
    assert wanted(settled, now_wanted, now + 1) == Change(settled)


@given(STEPS)
def test_who_leaves_takes_no_requests_while_it_leaves(steps: list[object]) -> None:
    """A leaving replica is draining from the step on in which it was not wanted any more."""
    snapshot = FleetSnapshot()
    for now, step in enumerate(steps):
        if isinstance(step, list):
            snapshot = wanted(snapshot, step, float(now)).snapshot
        elif isinstance(step, tuple) and step[1] is not Sign.RESUME:  # which is refused to one that leaves
            snapshot = fold(snapshot, HealthReading(ReplicaId(step[0]), step[1]), float(now))
        assert all(view.state is DRAINING for view in snapshot.replicas if view.leaving)
