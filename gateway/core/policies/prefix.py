"""The rule: price cache and load in one unit, tokens of work; the cheapest replica wins.

Figures behind it and its constants: docs/policies.md.
"""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaView

G = 0.07
"""Share by which each request in flight slows a new prefill. Half or twice of it changes p99 TTFT by 1.5 % at most."""

K = 0.05
"""Tokens of work for each prompt token in flight there: its decodes are slowed by a prefill. As little sensitive."""


class Prefix:
    """Score, in tokens: prefill already promised to the replica, plus the part of this prompt that it does not hold,
    dearer with each request in flight, plus a little for every prompt token that it is decoding on."""

    name = "prefix"

    def __init__(self, g: float = G, k: float = K) -> None:
        self._g = g
        self._k = k

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        scores = []
        for view in candidates:
            replica = view.replica.id
            load = books[replica]
            work = facts.uncached_tokens(match.depth(replica))
            scores.append(load.queued_tokens + work * (1 + self._g * load.in_flight) + self._k * load.held_tokens)
        return scores

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        depth = match.depth(candidates[chosen].replica.id)
        return "prefix" if depth and depth == max(match.depth(view.replica.id) for view in candidates) else "load"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        """Nothing to learn: the index and the books know."""
