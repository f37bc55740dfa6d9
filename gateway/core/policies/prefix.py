"""The rule: price cache and load in one unit, tokens of work; the cheapest replica wins.

Figures behind it and its constants: docs/policies.md.
"""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.request import RequestFacts
from gateway.core.types import KvCache, ReplicaId, ReplicaView, Slowdown, Term

G = 0.07
"""Share by which each request in flight slows a new prefill. Half or twice of it changes p99 TTFT by 1.5 % at most."""

K = 0.05
"""Tokens of work for each prompt token in flight there: its decodes are slowed by a prefill. As little sensitive."""

E = 2.0
"""Tokens of work for each token computed anew, beside the request's own wait for it: all that come after wait for it,
too, and what it takes up in a cache throws out something else. Without it prompts leave their caches for queues that
are shorter by a little more than what is computed anew."""

W = 10.0
"""The same on top, while the caches of the whole fleet are full: what is thrown out is wanted and computed again."""

THETA = 0.85
"""KV cache usage from which on a replica counts as full in part; at 1 it counts as full."""

_NOMINAL = Slowdown()


class Prefix:
    """Score, in tokens: prefill already promised to the replica, plus the part of this prompt that it does not hold,
    for this request and for those who wait behind it, dearer with each request in flight and with the shortage of KV
    cache in the fleet, plus a little for every prompt token that it is decoding on, plus what would be too much for its
    own KV cache.

    A replica whose slow-down is not known counts as nominal; one whose KV cache is not known as having room, and it
    says nothing about the fleet's.
    """

    name = "prefix"
    unit = "tokens"

    def __init__(self, g: float = G, k: float = K, e: float = E, w: float = W, theta: float = THETA) -> None:
        self._g = g
        self._k = k
        self._e = e
        self._w = w
        self._theta = theta

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        g, k = self._g, self._k
        whole = facts.uncached_tokens(0)
        dearer = 1 + self._e + self._w * self._shortage(candidates, books)
        scores = []
        for view in candidates:
            replica = view.replica.id
            load = books[replica]
            depth = match.depth(replica)
            work = facts.uncached_tokens(depth) if depth else whole
            prefill = load.queued_tokens + work * (dearer + g * load.in_flight)
            if view.kv is not None:
                prefill += self._excess(view.kv, load.held_tokens, work)
            slow = view.slowdown or _NOMINAL
            scores.append(slow.prefill * prefill + slow.decode * k * load.held_tokens)
        return scores

    def _shortage(self, candidates: Sequence[ReplicaView], books: Books) -> float:
        """How full the KV caches are above `theta`, 0 to 1, as a mean of those that are known; 0 where none is.

        Of all, not of each: were the fullest one that much dearer, prompts would leave the replica that holds them and
        take up room at another one too, so that all have less.
        """
        shares = []
        for view in candidates:
            kv = view.kv
            if kv is not None and kv.capacity_tokens > 0:
                use = kv.usage_ratio + (books[view.replica.id].held_tokens - kv.held_tokens) / kv.capacity_tokens
                shares.append(min(1.0, max(0.0, use - self._theta) / (1 - self._theta)) if self._theta < 1 else 0.0)
        return sum(shares) / len(shares) if shares else 0.0

    def _excess(self, kv: KvCache, held_tokens: int, work: int) -> float:
        """Tokens by which this request takes the replica's own KV cache above `theta`; at most what it computes there,
        since no more of it can be computed twice."""
        if kv.capacity_tokens <= 0:
            return 0.0
        use = kv.usage_ratio + (held_tokens - kv.held_tokens + work) / kv.capacity_tokens
        return min(work, max(0.0, use - self._theta) * kv.capacity_tokens)

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        shortage = self._shortage(candidates, books)
        return [self._terms(facts, view, books, match.depth(view.id), shortage) for view in candidates]

    def _terms(self, facts: RequestFacts, view: ReplicaView, books: Books, depth: int, shortage: float) -> list[Term]:
        load = books[view.id]
        work = facts.uncached_tokens(depth)
        slow = view.slowdown or _NOMINAL
        excess = self._excess(view.kv, load.held_tokens, work) if view.kv else 0.0
        return [
            Term(
                "queued_prefill",
                slow.prefill * load.queued_tokens,
                "prefill already promised to it, whose first token is still to come",
            ),
            Term(
                "own_prefill",
                slow.prefill * work * (1 + self._e),
                f"prefill of this prompt there, {1 + self._e:g} times: for it and for those who wait behind it; "
                f"{depth} blocks of it are cached",
            ),
            Term(
                "slowed_by_decodes",
                slow.prefill * work * self._g * load.in_flight,
                f"this prefill made slower by the {load.in_flight} requests in flight there",
            ),
            Term(
                "slowing_decodes",
                slow.decode * self._k * load.held_tokens,
                f"running answers made slower by this prefill; their prompts are {load.held_tokens} tokens",
            ),
            Term(
                "kv_pressure",
                slow.prefill * (work * self._w * shortage + excess),
                f"what this prefill throws out of full KV caches; the fleet is {shortage:.0%} short of room",
            ),
        ]

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        depth = match.depth(candidates[chosen].replica.id)
        if not depth:
            return "load"
        # The deepest match of all may be at a replica that drains or serves another model.
        if depth == match.deepest or depth >= max(match.depth(view.replica.id) for view in candidates):
            return "prefix"
        return "load"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        """Nothing to learn: the index and the books know."""
