"""Least in flight: the replica that has the fewest of this gateway's requests."""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaView


class LeastLoad:
    """Score: requests in flight."""

    name = "least_load"

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        return [books[view.replica.id].in_flight for view in candidates]

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        return "load"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        """Nothing to learn: the books know."""
