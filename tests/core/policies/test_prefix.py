"""The rule: cache and load in one price."""

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies.prefix import Prefix
from gateway.core.request import RequestFacts
from gateway.core.types import Replica, ReplicaId, ReplicaState, ReplicaView

VIEWS = [
    ReplicaView(Replica(ReplicaId(name), f"http://127.0.0.1:{port}"), ReplicaState.READY)
    for port, name in enumerate(("a", "b"), 8001)
]
A, B = (view.id for view in VIEWS)
FACTS = RequestFacts(RELAYED[b"/v1/chat/completions"], None, False, None, 1000, False, b"", blocks=(1, 2, 3, 4))


def scores(books: Books, index: PrefixIndex, policy: Prefix | None = None) -> list[float]:
    return list((policy or Prefix()).score(FACTS, VIEWS, books, index.match(FACTS.blocks)))


def test_an_idle_replica_costs_the_whole_prompt() -> None:
    """Without cache and load the score is the prompt's tokens."""
    assert scores(Books(), PrefixIndex()) == [1000, 1000]


def test_what_is_cached_need_not_be_prefilled() -> None:
    """Three blocks of 128 tokens are known: 616 are left."""
    index = PrefixIndex()
    index.record(A, (1, 2, 3))
    assert scores(Books(), index) == [616, 1000]


def test_the_last_token_is_always_computed() -> None:
    """A prompt that is known whole still costs one token, as vLLM computes its last one."""
    index = PrefixIndex()
    index.record(A, (1, 2, 3, 4))
    short = RequestFacts(RELAYED[b"/v1/chat/completions"], None, False, None, 400, False, b"", blocks=(1, 2, 3, 4))
    assert Prefix().score(short, VIEWS, Books(), index.match(short.blocks))[0] == 1


def test_promised_prefill_and_running_decodes_count() -> None:
    """Q + u (1 + g n) + k K, by the figures."""
    books = Books()
    books.open(A, 200, 500)
    books.open(A, 0, 300)
    assert scores(books, PrefixIndex(), Prefix(g=0.1, k=0.5)) == [200 + 1000 * 1.2 + 0.5 * 800, 1000]


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
