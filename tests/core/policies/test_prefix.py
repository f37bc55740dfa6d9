"""The rule: cache and load in one price."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies.prefix import Prefix
from gateway.core.request import RequestFacts
from gateway.core.types import KvCache, Replica, ReplicaId, ReplicaState, ReplicaView, Slowdown

VIEWS = [
    ReplicaView(Replica(ReplicaId(name), f"http://127.0.0.1:{port}"), ReplicaState.READY)
    for port, name in enumerate(("a", "b"), 8001)
]
A, B = (view.id for view in VIEWS)
FACTS = RequestFacts(RELAYED[b"/v1/chat/completions"], None, False, None, 1000, False, b"", blocks=(1, 2, 3, 4))


def scores(books: Books, index: PrefixIndex, policy: Prefix | None = None) -> list[float]:
    return list((policy or Prefix()).score(FACTS, VIEWS, books, index.match(FACTS.blocks)))


def test_an_idle_replica_costs_the_whole_prompt() -> None:
    """Without cache and load the score is the prompt's tokens, once for itself and twice for those behind it."""
    assert scores(Books(), PrefixIndex()) == [3000, 3000]
    assert scores(Books(), PrefixIndex(), Prefix(e=0)) == [1000, 1000]


def test_what_is_cached_need_not_be_prefilled() -> None:
    """Three blocks of 128 tokens are known: 616 are left."""
    index = PrefixIndex()
    index.record(A, (1, 2, 3))
    assert scores(Books(), index, Prefix(e=0)) == [616, 1000]


def test_the_last_token_is_always_computed() -> None:
    """A prompt that is known whole still costs one token, as vLLM computes its last one."""
    index = PrefixIndex()
    index.record(A, (1, 2, 3, 4))
    short = RequestFacts(RELAYED[b"/v1/chat/completions"], None, False, None, 400, False, b"", blocks=(1, 2, 3, 4))
    assert Prefix(e=0).score(short, VIEWS, Books(), index.match(short.blocks))[0] == 1


def test_promised_prefill_and_running_decodes_count() -> None:
    """Q + u (1 + e + g n) + k K, by the figures."""
    books = Books()
    books.open(A, 200, 500)
    books.open(A, 0, 300)
    assert scores(books, PrefixIndex(), Prefix(g=0.1, k=0.5)) == [200 + 1000 * 3.2 + 0.5 * 800, 3000]


def test_the_reason_tells_cache_from_load() -> None:
    """`prefix` only if nobody holds more of the prompt than the one that won."""
    index = PrefixIndex()
    index.record(A, (1,))
    match = index.match(FACTS.blocks)
    policy = Prefix()
    policy.record(FACTS, A)
    assert policy.reason(FACTS, VIEWS, [0, 1], 0, match) == "prefix"
    assert policy.reason(FACTS, VIEWS, [1, 0], 1, match) == "load"
    assert policy.reason(FACTS, VIEWS, [0, 1], 0, index.match((9,))) == "load"


def test_full_kv_caches_make_what_is_computed_anew_dearer_everywhere() -> None:
    """A: use = 0.9 + (300 - 100) / 10,000 = 0.92; of the 0.1 above theta that is 0.2; B has room: 0.1 in the mean.

    With the request's 1,000 tokens A itself is above theta by 1,200: at most what is computed there counts.
    """
    books = Books()
    books.open(A, 0, 300)
    views = [replace(VIEWS[0], kv=KvCache(10_000, 0.9, 100)), replace(VIEWS[1], kv=KvCache(10_000, 0.2, 0))]
    match = PrefixIndex().match(())
    base = Prefix().score(FACTS, VIEWS, books, match)
    assert Prefix(w=10, theta=0.9).score(FACTS, views, books, match) == [
        pytest.approx(base[0] + 1000 + 1000),
        pytest.approx(base[1] + 1000),
    ]
    assert Prefix(theta=1).score(FACTS, views[1:], books, match) == base[1:]
    none = [replace(view, kv=KvCache(0, 1.0, 0)) for view in VIEWS]
    assert Prefix().score(FACTS, none, books, match) == base


def test_a_prompt_leaves_its_cache_only_for_a_much_shorter_queue() -> None:
    """What B would compute anew delays others, too."""
    index, books = PrefixIndex(), Books()
    index.record(A, (1, 2, 3, 4))
    books.open(A, 1200, 0)
    alone = scores(books, index, Prefix(e=0))
    assert alone[1] < alone[0]
    assert scores(books, index)[0] < scores(books, index)[1]
    books.open(A, 1200, 0)
    assert scores(books, index)[1] < scores(books, index)[0]


def test_a_prompt_stays_with_its_cache_where_caches_are_full() -> None:
    """A holds it and has a queue; B is idle, and the less full of the two."""
    index, books = PrefixIndex(), Books()
    index.record(A, (1, 2, 3, 4))
    books.open(A, 2000, 2000)
    match = index.match(FACTS.blocks)
    room = [replace(view, kv=KvCache(100_000, 0.5, 0)) for view in VIEWS]
    full = [replace(VIEWS[0], kv=KvCache(100_000, 0.99, 2000)), replace(VIEWS[1], kv=KvCache(100_000, 0.95, 0))]
    assert min(*zip(Prefix().score(FACTS, room, books, match), "ab", strict=True))[1] == "b"
    assert min(*zip(Prefix().score(FACTS, full, books, match), "ab", strict=True))[1] == "a"


def test_a_slow_replica_is_dearer() -> None:
    """Its prefill by the one factor, the decodes there by the other."""
    books = Books()
    books.open(A, 200, 500)
    views = [replace(VIEWS[0], slowdown=Slowdown(2.0, 3.0)), VIEWS[1]]
    scores = Prefix(g=0.1, k=0.5, e=0.5).score(FACTS, views, books, PrefixIndex().match(()))
    assert scores == [pytest.approx(2 * (200 + 1000 * 1.6) + 3 * 0.5 * 500), 1500]


loads = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=4)
caches = st.none() | st.builds(KvCache, st.integers(1000, 9000), st.floats(0, 1), st.integers(0, 500))
slow = st.none() | st.builds(Slowdown, st.floats(0.4, 6), st.floats(0.4, 6))
conditions = st.tuples(loads, caches, slow, st.integers(0, 4))


@given(st.lists(conditions, min_size=2, max_size=2), st.sampled_from(["load", "kv", "slow", "cache"]))
def test_more_pressure_never_lowers_a_price(made, kind) -> None:
    """More requests, a fuller cache, a slower card, a shorter match: dearer or as dear, and the other no cheaper."""
    books, index, views = Books(), PrefixIndex(), []
    for view, (own, kv, slowdown, depth) in zip(VIEWS, made, strict=True):
        views.append(replace(view, kv=kv, slowdown=slowdown))
        index.record(view.id, FACTS.blocks[:depth])
        for work, held in own:
            books.open(view.id, work, held)
    before = Prefix().score(FACTS, views, books, index.match(FACTS.blocks))
    first = views[0]
    if kind == "load":
        books.open(A, 100, 100)
    elif kind == "kv":
        usage = first.kv.usage_ratio + 0.1 if first.kv else 1.0
        views[0] = replace(first, kv=replace(first.kv or KvCache(5000, 0, 0), usage_ratio=usage))
    elif kind == "slow":
        was = first.slowdown or Slowdown()
        views[0] = replace(first, slowdown=Slowdown(was.prefill * 1.5, was.decode * 1.5))
    else:
        index.forget(A)
    after = Prefix().score(FACTS, views, books, index.match(FACTS.blocks))
    assert after[0] >= before[0] - 1e-6
    assert after[1] >= before[1] - 1e-6
