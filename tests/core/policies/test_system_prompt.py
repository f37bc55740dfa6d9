from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies.system_prompt import LOAD_FACTOR, SystemPrompt
from gateway.core.request import RequestFacts
from gateway.core.types import Replica, ReplicaId, ReplicaState, ReplicaView
from tests.core.nowhere import NOWHERE

FACTS = RequestFacts(RELAYED[b"/v1/chat/completions"], "m", True, 42, 10, False, b"")
KEYS = st.integers(0, 2**64 - 1)
LOADS = st.lists(st.integers(0, 30), min_size=2, max_size=8)


def views(count: int, state: ReplicaState = ReplicaState.READY, prefix: str = "r") -> list[ReplicaView]:
    return [ReplicaView(Replica(ReplicaId(f"{prefix}{i}"), f"http://{prefix}{i}"), state) for i in range(count)]


def busy(candidates: list[ReplicaView], loads: list[int]) -> Books:
    books = Books()
    for view, load in zip(candidates, loads, strict=True):
        for _ in range(load):
            books.open(view.id, 1, 1)
    return books


def choose(key: int | None, candidates: list[ReplicaView], books: Books) -> tuple[ReplicaId, str]:
    """Where the request would go, and why."""
    policy, facts = SystemPrompt(), structs.replace(FACTS, system_key=key)
    scores = list(policy.score(facts, candidates, books, NOWHERE))
    best = scores.index(min(scores))
    return candidates[best].id, policy.reason(facts, candidates, scores, best, NOWHERE)


@given(KEYS, LOADS, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(key, loads, random):
    """A replica's score is its own, wherever it stands in the list."""
    candidates = views(len(loads))
    books = busy(candidates, loads)
    facts = structs.replace(FACTS, system_key=key)
    scores = dict(zip((v.id for v in candidates), SystemPrompt().score(facts, candidates, books, NOWHERE), strict=True))
    shuffled = random.sample(candidates, len(candidates))
    again = dict(zip((v.id for v in shuffled), SystemPrompt().score(facts, shuffled, books, NOWHERE), strict=True))
    assert again == scores


@given(KEYS, st.integers(2, 8), st.integers(0, 5))
def test_losing_a_replica_moves_only_its_prompts(key, count, load):
    """At equal load a prompt stays where it is unless its own replica has left."""
    candidates = views(count)
    books = busy(candidates, [load] * count)
    home, reason = choose(key, candidates, books)
    assert reason == "prefix"
    for lost in candidates:
        if lost.id != home:
            left = [view for view in candidates if view is not lost]
            assert choose(key, left, books) == (home, "prefix")


@given(st.lists(KEYS, min_size=1, max_size=4), st.integers(2, 6), st.integers(1, 60))
def test_no_replica_is_swamped(keys, count, requests):
    """However popular a few prompts are, a replica never holds more than its bound when a request is added to it."""
    candidates = views(count)
    books = Books()
    for i in range(requests):
        chosen, _ = choose(keys[i % len(keys)], candidates, books)
        books.open(chosen, 1, 1)
        assert books[chosen].in_flight <= ceil(LOAD_FACTOR * (i + 1) / count)


@given(KEYS, st.integers(2, 4), st.integers(1, 8), st.integers(1, 60))
def test_replicas_that_are_out_do_not_lift_the_bound(key, count, out, requests):
    """With half the fleet ejected, the idle dead pulled the mean down and one prompt melted its replica."""
    ready = views(count)
    candidates = ready + views(out, ReplicaState.EJECTED, "out")
    books = Books()
    policy, facts = SystemPrompt(), structs.replace(FACTS, system_key=key)
    for i in range(requests):
        scores = policy.score(facts, candidates, books, NOWHERE)[:count]
        chosen = ready[scores.index(min(scores))].id
        books.open(chosen, 1, 1)
        assert books[chosen].in_flight <= ceil(LOAD_FACTOR * (i + 1) / count)


def test_an_overflow_is_told_as_load():
    """The home answers for the prefix; whoever takes what it cannot is chosen for its load."""
    candidates = views(3)
    home, reason = choose(42, candidates, Books())
    assert reason == "prefix"
    other, reason = choose(42, candidates, busy(candidates, [9 if view.id == home else 0 for view in candidates]))
    assert other != home
    assert reason == "load"


@given(LOADS)
def test_without_a_prompt_the_least_loaded_is_chosen(loads):
    """A request whose prompt no cache could know goes by load alone."""
    candidates = views(len(loads))
    chosen, reason = choose(None, candidates, busy(candidates, loads))
    assert loads[int(chosen[1:])] == min(loads)
    assert reason == "load"


@pytest.mark.parametrize("state", [ReplicaState.SUSPECT, ReplicaState.EJECTED])
def test_a_fleet_in_which_nobody_is_ready_is_bounded_too(state):
    """When all are out, the bound is over all."""
    candidates = views(2, state)
    home, _ = choose(42, candidates, Books())
    books = busy(candidates, [9 if view.id == home else 0 for view in candidates])
    assert choose(42, candidates, books)[0] != home


def test_nothing_is_learnt():
    """Recording a choice changes no score: a hash needs no memory."""
    candidates, policy = views(3), SystemPrompt()
    before = policy.score(FACTS, candidates, Books(), NOWHERE)
    policy.record(FACTS, candidates[0].id)
    assert policy.score(FACTS, candidates, Books(), NOWHERE) == before


def test_the_terms_say_what_decides():
    """Hash and bound for a prompt that has a home, the load for one that has none."""
    candidates = views(2)
    books = busy(candidates, [5, 0])
    facts = structs.replace(FACTS, system_key=42)
    assert [own[1].value for own in SystemPrompt().terms(facts, candidates, books, NOWHERE)] == [1, 0]
    facts = structs.replace(FACTS, system_key=None)
    assert [[term.value for term in own] for own in SystemPrompt().terms(facts, candidates, books, NOWHERE)] == [
        [5],
        [0],
    ]
