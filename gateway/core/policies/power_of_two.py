"""Power of two choices: of two replicas picked by hash, the one with fewer in flight.

Source: Mitzenmacher, "The power of two choices in randomized load balancing". The picks come from a count of requests,
so that a decision can be asked twice.
"""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.rendezvous import nth, weight
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaState, ReplicaView, Term

NOT_PICKED = 1e9
"""Added to the requests in flight of the others: they follow by load, for a failover."""


class PowerOfTwo:
    """Score: requests in flight; far more for all but the two that were picked. Picks are among ready replicas."""

    name = "power_of_two"
    unit = "requests"

    def __init__(self) -> None:
        self._count = 0

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        return [sum(term.value for term in terms) for terms in self.terms(facts, candidates, books, match)]

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        key = nth(self._count)
        ready = [view for view in candidates if view.state is ReplicaState.READY] or candidates
        picked = {view.id for view in sorted(ready, key=lambda view: -weight(key, view.replica.id))[:2]}
        return [
            [
                Term("in_flight", books[view.id].in_flight, "requests of this gateway in flight there"),
                Term("not_picked", 0 if view.id in picked else NOT_PICKED, "0 for the two that this request compares"),
            ]
            for view in candidates
        ]

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        return "load"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        self._count += 1
