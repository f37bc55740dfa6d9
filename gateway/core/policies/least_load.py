"""Least in flight: the replica that has the fewest of this gateway's requests."""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaView, Term


class LeastLoad:
    """Score: requests in flight."""

    name = "least_load"
    unit = "requests"

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        return [books[view.replica.id].in_flight for view in candidates]

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        scores = self.score(facts, candidates, books, match)
        return [[Term("in_flight", score, "requests of this gateway in flight there")] for score in scores]

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        return "load"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        """Nothing to learn: the books know."""
