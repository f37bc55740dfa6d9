"""Random: any replica, each as likely as the others; a hash of a count of requests, so that it can be asked twice."""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.rendezvous import nth, weight
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaView, Term


class Random:
    """Score: 0 to 1, by hash of the request's number and the replica."""

    name = "random"
    unit = "rank"

    def __init__(self) -> None:
        self._count = 0

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        key = nth(self._count)
        return [1.0 - weight(key, view.replica.id) for view in candidates]

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        return [[Term("lot", score, "drawn for this request")] for score in self.score(facts, candidates, books, match)]

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        return "random"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        self._count += 1
