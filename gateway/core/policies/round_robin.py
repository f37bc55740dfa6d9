"""Round robin: each replica in turn."""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaView, Term

MOST_NAMES = 4096
"""Replicas whose turn is remembered: fleets change, and names that have left must not gather for ever."""


class RoundRobin:
    """Score: the turn in which the replica was last chosen; one that never was goes first."""

    name = "round_robin"
    unit = "turns"

    def __init__(self) -> None:
        self._turn = 0
        self._last: dict[ReplicaId, int] = {}

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        last = self._last
        return [last.get(view.replica.id, 0) for view in candidates]

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        scores = self.score(facts, candidates, books, match)
        return [[Term("last_turn", score, "the turn in which it was last chosen; 0: never")] for score in scores]

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        return "turn"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        self._turn += 1
        self._last.pop(chosen, None)  # so that the longest unchosen stand first
        self._last[chosen] = self._turn
        if len(self._last) > MOST_NAMES:
            del self._last[next(iter(self._last))]
