"""Any replica, evenly."""

from collections import Counter

from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies.random import Random
from gateway.core.request import RequestFacts
from gateway.core.types import Replica, ReplicaId, ReplicaView
from tests.core.nowhere import NOWHERE

FACTS = RequestFacts(RELAYED[b"/v1/chat/completions"], "m", True, None, 10, False, b"")
VIEWS = [ReplicaView(Replica(ReplicaId(f"r{i}"), f"http://r{i}")) for i in range(4)]


def test_each_is_as_likely_as_the_others() -> None:
    """Load does not matter, and only a recorded choice draws anew."""
    policy, books = Random(), Books()
    books.open(VIEWS[0].id, 9, 9)
    chosen: Counter[int] = Counter()
    for _ in range(2000):
        scores = policy.score(FACTS, VIEWS, books, NOWHERE)
        assert policy.score(FACTS, VIEWS, books, NOWHERE) == scores
        chosen[min(range(4), key=scores.__getitem__)] += 1
        policy.record(FACTS, VIEWS[0].id)
    assert all(400 < count < 600 for count in chosen.values())
    assert policy.reason(FACTS, VIEWS, scores, 0, NOWHERE) == "random"
