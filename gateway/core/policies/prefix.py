"""The rule: price cache and load in one unit, tokens of work; the cheapest replica wins.

Figures behind it and its constants: docs/policies.md.
"""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaView, Slowdown, Term

G = 0.07
"""Share by which each request in flight slows a new prefill. Half or twice of it changes p99 TTFT by 1.5 % at most."""

K = 0.05
"""Tokens of work for each prompt token in flight there: its decodes are slowed by a prefill. As little sensitive."""

W = 1.0
"""Tokens of work for each token by which the KV cache would be too full: a preempted token is computed again."""

THETA = 0.85
"""KV cache usage above which it is too full."""

_NOMINAL = Slowdown()


class Prefix:
    """Score, in tokens: prefill already promised to the replica, plus the part of this prompt that it does not hold,
    dearer with each request in flight, plus a little for every prompt token that it is decoding on, plus what its KV
    cache would be short of. A replica whose slow-down is not known counts as nominal, an unknown KV cache as empty."""

    name = "prefix"
    unit = "tokens"

    def __init__(self, g: float = G, k: float = K, w: float = W, theta: float = THETA) -> None:
        self._g = g
        self._k = k
        self._w = w
        self._theta = theta

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        g, k = self._g, self._k
        whole = facts.uncached_tokens(0)
        scores = []
        for view in candidates:
            replica = view.replica.id
            load = books[replica]
            depth = match.depth(replica)
            work = facts.uncached_tokens(depth) if depth else whole
            prefill = load.queued_tokens + work * (1 + g * load.in_flight)
            if view.kv is not None:
                prefill += self._shortage(view, load.held_tokens, work)
            slow = view.slowdown or _NOMINAL
            scores.append(slow.prefill * prefill + slow.decode * k * load.held_tokens)
        return scores

    def _shortage(self, view: ReplicaView, held_tokens: int, work: int) -> float:
        """`w` times the tokens by which this request would take the KV cache above `theta`; 0 while unknown."""
        kv = view.kv
        if kv is None or kv.capacity_tokens <= 0:
            return 0.0
        use = kv.usage_ratio + (held_tokens - kv.held_tokens + work) / kv.capacity_tokens
        return self._w * max(0.0, use - self._theta) * kv.capacity_tokens

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        return [self._terms(facts, view, books, match.depth(view.id)) for view in candidates]

    def _terms(self, facts: RequestFacts, view: ReplicaView, books: Books, depth: int) -> list[Term]:
        load = books[view.id]
        work = facts.uncached_tokens(depth)
        slow = view.slowdown or _NOMINAL
        shortage = self._shortage(view, load.held_tokens, work)
        pressure = "what its KV cache would be short of" if view.kv else "its KV cache usage is not known"
        return [
            Term(
                "queued_prefill",
                slow.prefill * load.queued_tokens,
                "prefill already promised to it, whose first token is still to come",
            ),
            Term("own_prefill", slow.prefill * work, f"prefill of this prompt there; {depth} blocks of it are cached"),
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
            Term("kv_pressure", slow.prefill * shortage, pressure),
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
