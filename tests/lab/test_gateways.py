"""The lab's gateway decides as the one that serves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.affinity import PrefixIndex, capacity_blocks
from gateway.core.books import Books
from gateway.core.policies import POLICIES
from gateway.core.routing import decide
from gateway.core.types import FleetSnapshot, KvCache, Replica, ReplicaId, ReplicaState, ReplicaView
from gateway.lab.entrants import ENTRANTS
from gateway.lab.gateways import LabGateway
from gateway.lab.peers import Scraped
from tests.lab.fleets import facts_of, item

IDS = [ReplicaId(f"r{n}") for n in range(3)]
KV = 100_000

steps = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(("first", "close", "scrape", "go on"))), max_size=40)


@pytest.mark.parametrize("name", POLICIES)
@given(steps=steps)
def test_it_chooses_what_serving_would(name: str, steps: list[tuple[int, str]]) -> None:
    """The serving path, spelled out: match, decide, record, then enter the work in the books and the chain in the
    index. Whatever happens in between, both choose the same replica."""
    lab = LabGateway(ENTRANTS[name], [KV] * 3)
    policy, books, index = POLICIES[name](), Books(), PrefixIndex()
    views = [ReplicaView(Replica(replica, f"http://{replica}"), ReplicaState.READY) for replica in IDS]
    for replica in IDS:
        index.resize(replica, capacity_blocks(KV))
    entries = []
    for number, (topic, then) in enumerate(steps):
        facts = facts_of(item(topic=topic, own=number))
        match = index.match(facts.blocks)
        chosen = decide(facts, FleetSnapshot(tuple(views)), books, match, policy).ranked[0].id
        policy.record(facts, chosen)
        placed = lab.place(facts, 0.0)
        assert IDS[placed.replica] == chosen
        assert placed.work_tokens == facts.uncached_tokens(match.depth(chosen))
        entries.append((placed.entry, books.open(chosen, placed.work_tokens, facts.prompt_tokens)))
        index.record(chosen, facts.blocks)
        if then == "scrape":
            lab.scraped([Scraped(0, 0.1 * n) for n in range(3)], 0.0)
            views = [
                ReplicaView(view.replica, view.state, kv=KvCache(KV, 0.1 * n, books[view.id].held_tokens))
                for n, view in enumerate(views)
            ]
        elif then != "go on":
            for entry in entries.pop(0):
                entry.first_token()
                if then == "close":
                    entry.close()


def test_a_reply_is_known_at_its_end() -> None:
    """Its blocks count for the next turn, which begins with them."""
    gateway = LabGateway(ENTRANTS["prefix"], [KV] * 2)
    turn = item(prompt=1024, output=640)
    gateway.place(facts_of(turn), 0.0).entry.close()
    assert gateway.index.match(turn.index_blocks + turn.reply_index_blocks).deepest == 8
    gateway.replied(0, turn)
    assert gateway.index.match(turn.index_blocks + turn.reply_index_blocks).depth(IDS[0]) == 13


def test_a_lost_replica_gets_nothing_until_it_is_back() -> None:
    """It is out at once, and comes back with an empty cache and the size of its index."""
    gateway = LabGateway(ENTRANTS["prefix"], [KV, KV])
    home = gateway.place(facts_of(item()), 0.0).replica
    gateway.lost(home)
    gateway.scraped([None if n == home else Scraped(0, 0.5) for n in range(2)], 0.0)
    assert [gateway.place(facts_of(item(own=n)), 0.0).replica for n in range(20)] == [1 - home] * 20
    gateway.rejoined(home)
    assert gateway.index.blocks(IDS[home]) == 0
    assert home in [gateway.place(facts_of(item(topic=2, own=n)), 0.0).replica for n in range(4)]


def test_a_slow_replica_gets_less_while_it_is_slow() -> None:
    gateway = LabGateway(ENTRANTS["prefix"], [KV, KV])

    def share(count: int) -> int:
        return sum(gateway.place(facts_of(item(topic=n, own=n)), 0.0).replica for n in range(count))

    assert share(20) == 10
    gateway.slowed(1, 3.0)
    gateway.scraped([Scraped(0, 0.1)] * 2, 0.0)
    assert share(20) < 5
    gateway.slowed(1, 1.0)
    assert share(20) > 15
