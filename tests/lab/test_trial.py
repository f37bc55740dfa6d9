"""The changes on trial, by the figures."""

from dataclasses import replace

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.policies.prefix import Prefix
from gateway.core.types import KvCache, Replica, ReplicaId, ReplicaState, ReplicaView
from gateway.lab.peers import Scraped, Seen
from gateway.lab.trial import WAITING_TOKENS, PrefixTrial
from tests.lab.fleets import facts_of, item

VIEWS = [ReplicaView(Replica(ReplicaId(one), f"http://{one}"), ReplicaState.READY) for one in ("a", "b")]
FACTS = facts_of(item())
"""1,280 tokens, ten blocks."""


def scores(policy: Prefix, views: list[ReplicaView], cached: int = 0) -> list[float]:
    """Nothing is in flight; A holds so many blocks of the prompt."""
    index = PrefixIndex()
    index.record(VIEWS[0].id, FACTS.blocks[:cached])
    return list(policy.score(FACTS, views, Books(), index.match(FACTS.blocks)))


def test_the_rule_where_nothing_presses() -> None:
    assert scores(PrefixTrial(Seen()), VIEWS, 4) == scores(Prefix(), VIEWS, 4) == [768, 1280]


def test_pressure_costs_no_more_than_the_request() -> None:
    """A cache that is 100,000 tokens short makes the 128 tokens that are not cached there twice as dear, not more."""
    views = [replace(view, kv=KvCache(1_000_000, 0.95, 0)) for view in VIEWS]
    assert scores(PrefixTrial(Seen()), views, 9) == [2 * 128, 2 * 1280]
    assert scores(Prefix(), views, 9)[0] > 100_000


def test_a_little_pressure_costs_as_in_the_rule() -> None:
    views = [replace(view, kv=KvCache(1_000_000, 0.849, 0)) for view in VIEWS]
    assert scores(PrefixTrial(Seen()), views) == scores(Prefix(), views)


def test_who_waits_in_the_engine_has_a_price() -> None:
    """Three wait at B; A has not been scraped yet."""
    seen = Seen({VIEWS[1].id: Scraped(3, 0.5)})
    assert scores(PrefixTrial(seen), VIEWS) == [1280, 1280 + 3 * WAITING_TOKENS]
