"""Consistent hash of the system prompt, with bounded loads: a prompt stays with its replica unless that is swamped.

Sources: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (rendezvous hashing); Mirrokni,
Thorup and Zadimoghaddam, "Consistent hashing with bounded loads". Without the bound, a popular prompt melts a replica.
"""

from collections.abc import Sequence
from math import ceil

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.rendezvous import weight
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaState, ReplicaView

LOAD_FACTOR = 1.25
"""A replica may hold this many times the mean number of requests in flight before its prompts overflow to the next."""


class SystemPrompt:
    """Score: 0 to 1 by rendezvous hash of the system prompt; 1 more for a replica at its bound.

    Requests without a system prompt go to the replica with the fewest in flight.
    """

    name = "system_prompt"

    def __init__(self, load_factor: float = LOAD_FACTOR) -> None:
        self._load_factor = load_factor

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        loads = [books[view.replica.id].in_flight for view in candidates]
        key = facts.system_key
        if key is None:
            return loads
        # Idle because they are out, the others would pull the mean down until every replica is over its bound.
        ready = [
            load for view, load in zip(candidates, loads, strict=True) if view.state is ReplicaState.READY
        ] or loads
        bound = ceil(self._load_factor * (sum(ready) + 1) / len(ready))
        return [
            1.0 - weight(key, view.replica.id) + (load >= bound) for view, load in zip(candidates, loads, strict=True)
        ]

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        if facts.system_key is None:
            return "load"
        # Only the replica with the highest weight is the prompt's home; a lower weight won because of the bound.
        fractions = [score % 1.0 for score in scores]
        return "prefix" if fractions[chosen] == min(fractions) else "load"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        """Nothing to learn: a hash needs no memory."""
