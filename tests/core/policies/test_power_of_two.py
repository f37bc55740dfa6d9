"""The better of two."""

from collections import Counter

import pytest

from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies.power_of_two import NOT_PICKED, PowerOfTwo
from gateway.core.request import RequestFacts
from gateway.core.types import Replica, ReplicaId, ReplicaState, ReplicaView
from tests.core.nowhere import NOWHERE

FACTS = RequestFacts(RELAYED[b"/v1/chat/completions"], "m", True, None, 10, False, b"")


def views(count: int, state: ReplicaState = ReplicaState.READY) -> list[ReplicaView]:
    return [ReplicaView(Replica(ReplicaId(f"r{i}"), f"http://r{i}"), state) for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_two_are_compared_and_the_others_follow(count: int) -> None:
    """By load, all of them; with two or fewer replicas that is least load."""
    scores = PowerOfTwo().score(FACTS, views(count), Books(), NOWHERE)
    assert sorted(scores) == [0] * min(2, count) + [NOT_PICKED] * (count - 2)


def test_all_get_their_share() -> None:
    """An idle fleet is used evenly, within what chance gives."""
    policy, books, fleet = PowerOfTwo(), Books(), views(5)
    chosen: Counter[ReplicaId] = Counter()
    for _ in range(1000):
        scores = policy.score(FACTS, fleet, books, NOWHERE)
        best = fleet[min(range(5), key=scores.__getitem__)].id
        policy.record(FACTS, best)
        books.open(best, 1, 1)
        chosen[best] += 1
    assert max(chosen.values()) - min(chosen.values()) < 20


def test_the_busier_one_loses() -> None:
    """A replica that is always the busiest is never chosen."""
    policy, books, fleet = PowerOfTwo(), Books(), views(4)
    books.open(fleet[0].id, 1, 1)
    for _ in range(100):
        scores = policy.score(FACTS, fleet, books, NOWHERE)
        assert min(range(4), key=scores.__getitem__) != 0
        policy.record(FACTS, fleet[1].id)


def test_only_ready_replicas_are_picked() -> None:
    """A pick is not wasted on one that is out, while there are others."""
    fleet = [*views(2), *(ReplicaView(Replica(ReplicaId(f"x{i}"), "http://x")) for i in range(9))]
    assert list(PowerOfTwo().score(FACTS, fleet, Books(), NOWHERE)[:2]) == [0, 0]
    out = views(3, ReplicaState.EJECTED)
    assert sorted(PowerOfTwo().score(FACTS, out, Books(), NOWHERE)) == [0, 0, NOT_PICKED]
