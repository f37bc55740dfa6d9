"""Consistent hash of the session, with bounded loads: a session stays with its replica unless that is swamped."""

from collections.abc import Sequence

import xxhash

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.rendezvous import LOAD_FACTOR, bounded, is_home, terms
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaView, Term


class Session:
    """Score: 0 to 1 by rendezvous hash of `x-session-id`, or of the system prompt without one; 1 more at the bound.

    Requests with neither go to the replica with the fewest in flight.
    """

    name = "session"
    unit = "rank"

    def __init__(self, load_factor: float = LOAD_FACTOR) -> None:
        self._load_factor = load_factor

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        return bounded(_key(facts), candidates, books, self._load_factor)

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        scores = self.score(facts, candidates, books, match)
        return terms(_key(facts), scores, key_is="session", no_key="neither a session nor a system prompt")

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        if _key(facts) is None:
            return "load"
        return "session" if is_home(scores, chosen) else "load"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        """Nothing to learn: a hash needs no memory."""


def _key(facts: RequestFacts) -> int | None:
    if facts.session:
        return xxhash.xxh3_64_intdigest(facts.session.encode())
    return facts.system_key
