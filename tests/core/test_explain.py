"""Explanations agree with decisions."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.explain import explain
from gateway.core.policies import POLICIES
from gateway.core.request import RequestFacts
from gateway.core.routing import decide
from gateway.core.types import FleetSnapshot, KvCache, Replica, ReplicaId, ReplicaState, ReplicaView, Slowdown
from gateway.errors import ModelNotFound

FACTS = RequestFacts(RELAYED[b"/v1/chat/completions"], "m", True, 42, 1000, False, b"", blocks=(1, 2, 3, 4, 5))


def view(name: str, state: ReplicaState = ReplicaState.READY, models: tuple[str, ...] | None = ("m",), **known: object):
    names = None if models is None else frozenset(models)
    return ReplicaView(Replica(ReplicaId(name), f"http://{name}"), state, names, **known)


rows = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.lists(st.integers(1, 500), max_size=3),
        st.none() | st.floats(0, 1).map(lambda usage: KvCache(4000, usage, 100)),
        st.none() | st.builds(Slowdown, st.floats(0.4, 6), st.floats(0.4, 6)),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("name", POLICIES)
@given(rows)
def test_the_terms_add_up_to_the_score(name, made):
    """For every policy: the order is the decision's, and no part of a price is left untold."""
    index, books, policy = PrefixIndex(), Books(), POLICIES[name]()
    views = []
    for i, (depth, loads, kv, slowdown) in enumerate(made):
        views.append(view(f"r{i}", kv=kv, slowdown=slowdown))
        index.record(views[-1].id, FACTS.blocks[:depth])
        for tokens in loads:
            books.open(views[-1].id, tokens, tokens)
    fleet, match = FleetSnapshot(tuple(views)), index.match(FACTS.blocks)
    told = explain(FACTS, fleet, books, match, policy)
    decision = decide(FACTS, fleet, books, match, policy)
    assert [replica.replica for replica in told.replicas] == [replica.id for replica in decision.ranked]
    assert told.reason == decision.reason
    scores = dict(zip((v.id for v in views), policy.score(FACTS, views, books, match), strict=True))
    for replica in told.replicas:
        assert replica.score == pytest.approx(scores[replica.replica])
        assert replica.cached_tokens + replica.uncached_tokens == FACTS.prompt_tokens
        assert all(term.words for term in replica.terms)
    best = min(replica.uncached_tokens for replica in told.replicas)
    assert told.avoidable_tokens == told.replicas[0].uncached_tokens - best
    assert msgspec.json.decode(msgspec.json.encode(told))["policy"] == name


def told(*views: ReplicaView, books: Books | None = None, index: PrefixIndex | None = None):
    match = (index or PrefixIndex()).match(FACTS.blocks)
    return explain(FACTS, FleetSnapshot(views), books or Books(), match, POLICIES["prefix"]())


def test_who_is_not_asked_and_why():
    """A replica that is passed over is listed with its reason."""
    out = told(view("a"), view("b", ReplicaState.DRAINING), view("c", models=None), view("d", models=("x",)))
    assert {who.replica: who.why for who in out.passed_over} == {
        "b": "it is draining",
        "c": "it has not told yet which models it serves",
        "d": "it does not serve this model",
    }
    assert out.summary == "a: no other replica can be asked"


def test_the_summary_names_what_made_the_difference():
    """One sentence for an operator: cache, load, state or nothing at all."""
    index, books = PrefixIndex(), Books()
    index.record(ReplicaId("a"), FACTS.blocks)
    out = told(view("a"), view("b"), index=index)
    assert (
        out.summary == "a costs 1080 tokens, the next, b, 3000; the largest difference is 1920 in own_prefill (prefix)"
    )
    books.open(ReplicaId("a"), 5000, 5000)
    out = told(view("a"), view("b"), index=index, books=books)
    assert "in queued_prefill (load)" in out.summary
    assert out.avoidable_tokens == 640
    assert "the prompt's hash decides" in told(view("a"), view("b")).summary
    assert told(view("a"), view("b", ReplicaState.SUSPECT)).summary == "a is ready, the next, b, only suspect (load)"


def test_it_refuses_as_a_decision_does():
    """A model that nobody serves is no explanation but an error."""
    with pytest.raises(ModelNotFound):
        told(view("a", models=("x",)))


def test_the_header_names_its_terms_once():
    """Policy, unit and terms, then each replica's sum, best first."""
    index, books = PrefixIndex(), Books()
    index.record(ReplicaId("a"), FACTS.blocks)
    books.open(ReplicaId("b"), 500, 700)
    assert told(view("a"), view("b"), index=index, books=books).header() == (
        b"x-gateway-score: prefix tokens queued_prefill+own_prefill+slowed_by_decodes+slowing_decodes+kv_pressure"
        b"; a 1080=0+1080+0+0+0; b 3605=500+3000+70+35+0\r\n"
    )


def test_the_header_is_bounded():
    """The best eight of a large fleet, whatever their names, and how many there are beside them."""
    fleet = [view(f"{i:0128}", slowdown=Slowdown(1 + i, 1.0)) for i in range(100)]
    line = told(*fleet).header()
    assert len(line) < 2048
    assert line.count(b";") == 9
    assert line.endswith(b"; and 92 more\r\n")
    assert all(f"; {i:0128} ".encode() in line for i in range(8))
