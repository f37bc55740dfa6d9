"""Consistent hash of the system prompt, with bounded loads: a prompt stays with its replica unless that is swamped.

Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (rendezvous hashing).
"""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.rendezvous import LOAD_FACTOR, bounded, is_home, terms
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaView, Term


class SystemPrompt:
    """Score: 0 to 1 by rendezvous hash of the system prompt; 1 more for a replica at its bound.

    Requests without a system prompt go to the replica with the fewest in flight.
    """

    name = "system_prompt"
    unit = "rank"

    def __init__(self, load_factor: float = LOAD_FACTOR) -> None:
        self._load_factor = load_factor

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        return bounded(facts.system_key, candidates, books, self._load_factor)

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        scores = self.score(facts, candidates, books, match)
        return terms(facts.system_key, scores, key_is="system prompt", no_key="a prompt that no cache could know")

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        if facts.system_key is None:
            return "load"
        return "prefix" if is_home(scores, chosen) else "load"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        """Nothing to learn: a hash needs no memory."""
