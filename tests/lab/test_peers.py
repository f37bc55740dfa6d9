"""The peers' rules, by the figures, as we read them."""

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.types import Replica, ReplicaId, ReplicaState, ReplicaView
from gateway.lab.entrants import ENTRANTS, PEERS, Entrant
from gateway.lab.gateways import LabGateway
from gateway.lab.peers import HeldBlocks, Scraped, Seen
from tests.lab.fleets import facts_of, item

A, B = ReplicaId("a"), ReplicaId("b")
VIEWS = [ReplicaView(Replica(one, f"http://{one}"), ReplicaState.READY) for one in (A, B)]
FACTS = facts_of(item())
"""1,280 tokens, ten blocks."""


def scores(name: str, books: Books, seen: Seen | None = None, cached: int = 0, at: ReplicaId = A) -> list[float]:
    """What the rule says of A and B, when `cached` blocks of the prompt are at one of them."""
    index = PrefixIndex()
    index.record(at, FACTS.blocks[:cached])
    policy = ENTRANTS[name].make(seen or Seen())
    match = index.match(FACTS.blocks)
    found = policy.score(FACTS, VIEWS, books, match)
    policy.record(FACTS, A)
    assert [[term.value for term in terms] for terms in policy.terms(FACTS, VIEWS, books, match)] == [
        [score] for score in found
    ]
    assert policy.reason(FACTS, VIEWS, found, 0, match) == "peer"
    return list(found)


def loaded(in_flight: int) -> Books:
    """A has so many requests of 100 tokens, none of them with a first token yet."""
    books = Books()
    for _ in range(in_flight):
        books.open(A, 50, 100)
    return books


def test_sglang_follows_the_prefix_until_loads_differ() -> None:
    """Four blocks of ten are above 0.3; 65 more requests than the other are too many, but not if it is a small part."""
    assert scores("sglang", loaded(64), cached=4) == [-4, 0]
    assert scores("sglang", loaded(65), cached=4) == [65, 0]
    assert scores("sglang", loaded(5), cached=3) == [5, 0]
    books = loaded(200)
    for _ in range(134):
        books.open(B, 1, 1)
    assert scores("sglang", books, cached=10) == [-10, 0]


def test_gie_adds_weighted_shares() -> None:
    """3 x matched + 2 x (1 if no queue is longer) + 2 x free cache; before the first scrape a replica seems idle."""
    seen = Seen({A: Scraped(6, 0.25), B: Scraped(2, 0.75)})
    assert scores("gie", Books(), seen, cached=5) == [-(1.5 + 0 + 1.5), -(0 + 2 + 0.5)]
    assert scores("gie", Books(), cached=5) == [-(1.5 + 2 + 2), -(0 + 2 + 2)]


def test_dynamo_counts_a_shared_block_once() -> None:
    """100 tokens queued and 640 of its own to prefill, in blocks of 128; 10 blocks of its own, 3 of them held."""
    seen = Seen()
    seen.held.add(A, FACTS.blocks[:3])
    seen.held.add(A, FACTS.blocks[:3])
    assert scores("dynamo", loaded(2), seen, cached=5) == [(100 + 640) / 128 + 10, 1280 / 128 + 10]
    seen.held.add(A, (1, 2))
    assert scores("dynamo", Books(), seen)[0] == 10 + 12


def test_held_blocks_are_given_back() -> None:
    held = HeldBlocks()
    held.add(A, (1, 2))
    held.add(A, (1, 3))
    held.remove(A, (1, 2))
    assert (held.count_with(A, ()), held.count_with(A, (1, 4)), held.count_with(B, (1,))) == (2, 3, 1)


def test_a_gateway_keeps_held_blocks_for_who_wants_them() -> None:
    """From dispatch to the end, which may come twice."""
    given: list[Seen] = []

    def make(seen: Seen) -> object:
        given.append(seen)
        return PEERS["dynamo"].make(seen)

    gateway = LabGateway(Entrant("dynamo", make, wants_held=True), [100_000])  # type: ignore[arg-type]
    placed = gateway.place(FACTS, 0.0)
    held = given[0].held
    assert held.count_with(ReplicaId("r0"), ()) == 10
    placed.entry.close()
    placed.entry.close()
    assert held.count_with(ReplicaId("r0"), ()) == gateway.books.total_in_flight() == 0


def test_uncached_times_in_flight() -> None:
    assert scores("uncached_in_flight", loaded(3), cached=5) == [640 * 4, 1280]
