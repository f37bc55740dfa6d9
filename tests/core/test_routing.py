from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books, Load
from gateway.core.endpoints import RELAYED
from gateway.core.policies import POLICIES, Policy
from gateway.core.request import RequestFacts
from gateway.core.routing import decide, remaining
from gateway.core.types import FleetSnapshot, Replica, ReplicaId, ReplicaState, ReplicaView
from gateway.errors import ModelNotFound, Unavailable
from tests.core.nowhere import NOWHERE

READY, WARMING, SUSPECT, EJECTED, DRAINING = ReplicaState
FACTS = RequestFacts(RELAYED[b"/v1/chat/completions"], "m", True, 42, 10, False, b"")
ORDER = [READY, WARMING, SUSPECT, EJECTED]


def view(name: str, state: ReplicaState = READY, models: set[str] | None = frozenset(("m",))) -> ReplicaView:
    known = None if models is None else frozenset(models)
    return ReplicaView(Replica(ReplicaId(name), f"http://{name}"), state, known)


def fleet(*views: ReplicaView) -> FleetSnapshot:
    return FleetSnapshot(views)


def busy(**in_flight: int) -> Books:
    books = Books()
    for name, count in in_flight.items():
        for _ in range(count):
            books.open(ReplicaId(name), 1, 1)
    return books


def names(facts: RequestFacts, snapshot: FleetSnapshot, books: Books, policy: Policy) -> list[str]:
    return [replica.id for replica in decide(facts, snapshot, books, NOWHERE, policy).ranked]


FLEETS = st.lists(st.tuples(st.sampled_from(ORDER), st.integers(0, 5)), min_size=1, max_size=6).map(
    lambda rows: (
        fleet(*(view(f"r{i}", state) for i, (state, _) in enumerate(rows))),
        busy(**{f"r{i}": load for i, (_, load) in enumerate(rows)}),
    )
)
NEW_POLICIES = st.sampled_from(sorted(POLICIES)).map(lambda name: POLICIES[name]())
KEYS = st.none() | st.integers(0, 2**64 - 1)


@given(FLEETS, NEW_POLICIES, KEYS)
def test_a_decision_can_be_asked_twice(made, policy, key):
    """Deciding is pure: the same answer again, and the books are as they were."""
    snapshot, books = made
    facts = structs.replace(FACTS, system_key=key)
    before = [replace(books[view.id]) for view in snapshot.replicas]
    assert decide(facts, snapshot, books, NOWHERE, policy) == decide(facts, snapshot, books, NOWHERE, policy)
    assert [books[view.id] for view in snapshot.replicas] == before


@given(FLEETS, NEW_POLICIES, KEYS, st.randoms(use_true_random=False))
def test_the_order_of_the_fleet_does_not_matter(made, policy, key, random):
    """Gateways that list the same replicas in another order rank them alike."""
    snapshot, books = made
    facts = structs.replace(FACTS, system_key=key)
    shuffled = FleetSnapshot(tuple(random.sample(snapshot.replicas, len(snapshot.replicas))))
    assert names(facts, shuffled, books, policy) == names(facts, snapshot, books, policy)


@given(FLEETS, NEW_POLICIES, KEYS)
def test_trust_comes_before_load(made, policy, key):
    """Ready replicas, then suspect ones, whatever their load. Where most are not ready: all, the ejected ones last."""
    snapshot, books = made
    decision = decide(structs.replace(FACTS, system_key=key), snapshot, books, NOWHERE, policy)
    states = {view.id: view.state for view in snapshot.replicas}
    asked = [states[replica.id] for replica in decision.ranked]
    panic = 2 * sum(state is READY for state in states.values()) < len(states)
    if panic:
        assert sorted(asked) == sorted(states.values())
        assert asked == sorted(asked, key=lambda state: state is EJECTED)
    else:
        assert sorted(asked) == sorted(state for state in states.values() if state in (READY, SUSPECT))
        assert asked == sorted(asked, key=lambda state: state is SUSPECT)
    assert (decision.reason == "fallback") == (asked[0] is not READY)


@given(FLEETS, NEW_POLICIES, st.integers(1, 5), st.lists(st.sampled_from(ReplicaState), min_size=6, max_size=6))
def test_what_remains_of_a_ranking(made, policy, attempts, states):
    """In its order, without those that drain; without those that are out, unless most are."""
    before, books = made
    decision = decide(FACTS, before, books, NOWHERE, policy)
    now = {view.id: state for view, state in zip(before.replicas, states, strict=False)}
    after = fleet(*(replace(view, state=now[view.id]) for view in before.replicas))
    ranked = [replica.id for replica in decision.ranked]
    left = [replica.id for replica in remaining(decision, attempts, after).ranked]
    assert left[:attempts] == ranked[:attempts]
    kept = [name for name in ranked[attempts:] if now[name] is not DRAINING]
    standing = [now[name] for name in ranked if now[name] is not DRAINING]
    if 2 * standing.count(READY) >= len(standing):
        kept = [name for name in kept if now[name] in (READY, SUSPECT)]
    assert left[attempts:] == kept


def test_a_replica_that_has_left_does_not_remain():
    """It may have been the next."""
    decision = decide(FACTS, fleet(view("a"), view("b")), busy(b=1), NOWHERE, POLICIES["least_load"]())
    assert [replica.id for replica in remaining(decision, 1, fleet(view("a"))).ranked] == ["a"]


@given(FLEETS, st.integers(0, 5), KEYS)
def test_more_load_never_raises_a_replicas_rank(made, chosen, key):
    """One more request in flight never brings a replica nearer to the front."""
    snapshot, books = made
    snapshot = fleet(*(replace(view, state=READY) for view in snapshot.replicas))
    facts = structs.replace(FACTS, system_key=key)
    name = snapshot.replicas[chosen % len(snapshot.replicas)].id
    policy = POLICIES["least_load"]()
    before = names(facts, snapshot, books, policy).index(name)
    books.open(name, 1, 1)
    assert names(facts, snapshot, books, policy).index(name) >= before


@pytest.mark.parametrize("policy", POLICIES)
def test_a_draining_replica_is_never_asked(policy):
    """Not even as the last resort, and not when it is the idle one."""
    snapshot = fleet(view("a", DRAINING), view("b", SUSPECT), view("c", EJECTED))
    assert names(FACTS, snapshot, busy(b=9), POLICIES[policy]()) == ["b", "c"]


@pytest.mark.parametrize("state", [WARMING, EJECTED])
def test_who_is_out_is_not_asked_while_half_are_ready(state):
    """Not even after the others have failed; with less than half, it is, behind a warming one if it is ejected."""
    policy = POLICIES["least_load"]()
    assert names(FACTS, fleet(view("a"), view("b", state)), busy(a=9), policy) == ["a"]
    few = fleet(view("a"), view("b", state), view("c", WARMING))
    assert names(FACTS, few, busy(a=2, c=1), policy) == (["b", "c", "a"] if state is WARMING else ["c", "a", "b"])


def test_only_replicas_that_serve_the_model_are_asked():
    """A replica with other models, or one that has not told its models, is passed over while another is known."""
    snapshot = fleet(view("a", models={"other"}), view("b"), view("c", models=None))
    assert names(FACTS, snapshot, Books(), POLICIES["least_load"]()) == ["b"]


def test_without_a_model_all_replicas_will_do():
    """A request that names no model may go to any that takes traffic, known or not."""
    snapshot = fleet(view("a", models={"other"}), view("b", SUSPECT, None), view("c", DRAINING))
    facts = structs.replace(FACTS, model=None)
    assert names(facts, snapshot, Books(), POLICIES["least_load"]()) == ["a", "b"]


def test_a_model_that_nobody_serves():
    """When all models are known, an unknown one is the client's mistake, and the answer names it."""
    with pytest.raises(ModelNotFound) as caught:
        decide(
            FACTS, fleet(view("a", models={"x"}), view("b", models=set())), Books(), NOWHERE, POLICIES["least_load"]()
        )
    assert caught.value.param == "model"
    assert "'m'" in caught.value.message


def test_an_endless_model_name_is_not_said_back():
    """A name of megabytes came back in the answer and went into the log."""
    facts = structs.replace(FACTS, model="m" * 1_000_000)
    with pytest.raises(ModelNotFound) as caught:
        decide(facts, fleet(view("a")), Books(), NOWHERE, POLICIES["least_load"]())
    assert len(caught.value.message) < 300


def test_a_model_that_may_yet_turn_up():
    """While a replica has not told its models, the client is asked to come back."""
    with pytest.raises(Unavailable) as caught:
        decide(
            FACTS, fleet(view("a", models={"x"}), view("b", SUSPECT, None)), Books(), NOWHERE, POLICIES["least_load"]()
        )
    assert caught.value.retry_after_s == 1


def test_a_model_whose_only_replica_drains():
    """During a rolling restart the last replica of a model drained, and its clients were told 404."""
    with pytest.raises(Unavailable) as caught:
        decide(FACTS, fleet(view("a", models={"x"}), view("b", DRAINING)), Books(), NOWHERE, POLICIES["least_load"]())
    assert caught.value.retry_after_s == 1


@pytest.mark.parametrize("snapshot", [fleet(), fleet(view("a", DRAINING))])
@pytest.mark.parametrize("model", ["m", None])
def test_nobody_to_ask(snapshot, model):
    """An empty fleet, or one that drains, can take nothing now."""
    with pytest.raises(Unavailable, match="no replica can take traffic"):
        decide(structs.replace(FACTS, model=model), snapshot, Books(), NOWHERE, POLICIES["least_load"]())


def test_ties_break_by_the_prompt():
    """Among equals the prompt's hash decides, so that prompts spread over an idle fleet."""
    snapshot = fleet(*(view(f"r{i}") for i in range(4)))
    policy = POLICIES["least_load"]()
    first = {names(structs.replace(FACTS, system_key=key * 7919), snapshot, Books(), policy)[0] for key in range(64)}
    assert first == {"r0", "r1", "r2", "r3"}


def test_the_fallback_is_named():
    """When nobody is ready the least bad one serves, and the answer says so."""
    decision = decide(FACTS, fleet(view("a", EJECTED), view("b", SUSPECT)), Books(), NOWHERE, POLICIES["least_load"]())
    assert [replica.id for replica in decision.ranked] == ["b", "a"]
    assert decision.reason == "fallback"


def test_loads_are_read_by_replica():
    """The replica with fewer requests in flight comes first."""
    books = busy(a=2, b=1)
    assert books[ReplicaId("a")] == Load(2, 2, 2)
    assert names(FACTS, fleet(view("a"), view("b")), books, POLICIES["least_load"]()) == ["b", "a"]


CHAINS = st.lists(st.integers(0, 2), min_size=1, max_size=4).map(
    lambda steps: tuple(hash(tuple(steps[: i + 1])) for i in range(len(steps)))
)


@given(st.lists(st.tuples(st.integers(0, 3), CHAINS), max_size=8), CHAINS, st.integers(0, 3))
def test_losing_a_replica_moves_only_its_prefixes(history, asked, lost):
    """At equal load a prompt stays where it is, unless its own replica has left."""
    views = [view(f"r{i}") for i in range(4)]
    index, policy = PrefixIndex(), POLICIES["prefix"]()
    for i, chain in history:
        index.record(views[i].id, chain)
    facts = structs.replace(FACTS, blocks=asked, prompt_tokens=600)
    home = decide(facts, fleet(*views), Books(), index.match(asked), policy).ranked[0].id
    index.forget(views[lost].id)
    left = [view for i, view in enumerate(views) if i != lost]
    again = decide(facts, fleet(*left), Books(), index.match(asked), policy).ranked[0].id
    assert again == home or home == views[lost].id


def test_the_longest_match_that_could_be_had():
    """What was given away is measured against replicas that were ready, not against one that drains or is out."""
    views = [view("a"), view("b"), view("c", EJECTED), view("d", DRAINING)]
    index = PrefixIndex()
    for depth, name in enumerate("abcd", 1):
        index.record(ReplicaId(name), (1, 2, 3, 4)[:depth])
    facts, books = structs.replace(FACTS, blocks=(1, 2, 3, 4), prompt_tokens=600), busy(b=1)
    books.open(ReplicaId("b"), 5000, 5000)
    decision = decide(facts, fleet(*views), books, index.match(facts.blocks), POLICIES["prefix"]())
    assert (decision.ranked[0].id, decision.reason, decision.best_depth) == ("a", "load", 2)
