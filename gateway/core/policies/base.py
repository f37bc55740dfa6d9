"""What a policy is: a pure price for each replica, and a separate call that learns from what was chosen."""

from collections.abc import Sequence
from typing import Protocol

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaView, Term


class Policy(Protocol):
    """Scores are compared only with each other: the lower one wins. Asking twice gives the same answer."""

    name: str
    unit: str
    """What a score counts, as shown to people."""

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        """One score for each candidate, in their order, in the policy's own unit."""

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        """For each candidate the terms that add up to its score; for people, not for the hot path."""

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        """One word for why the candidate at index `chosen` won; it goes into `x-gateway-reason`."""

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        """A request was sent to `chosen`; the only call that may change the policy's state."""
