"""Other routers' rules, for comparison in the lab only: our reading of them, not their code.

Each gets the gateway's own prefix index, replies included, and its books; what differs is the rule. That favours the
peers: sglang's tree does not follow a replica's capacity, and neither it nor GIE learns a reply before the next turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.policies import Policy
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaId, ReplicaState, ReplicaView, Term


@dataclass(frozen=True, slots=True)
class Scraped:
    """What an engine said of itself at the last scrape: requests waiting, KV cache usage from 0 to 1."""

    waiting: int
    kv_usage: float


class HeldBlocks:
    """Blocks of the prompts in flight at each replica, one that several share counted once."""

    def __init__(self) -> None:
        self._holders: dict[ReplicaId, dict[int, int]] = {}

    def add(self, replica: ReplicaId, blocks: Sequence[int]) -> None:
        holders = self._holders.setdefault(replica, {})
        for block in blocks:
            holders[block] = holders.get(block, 0) + 1

    def remove(self, replica: ReplicaId, blocks: Sequence[int]) -> None:
        holders = self._holders[replica]
        for block in blocks:
            left = holders[block] - 1
            if left:
                holders[block] = left
            else:
                del holders[block]

    def count_with(self, replica: ReplicaId, blocks: Sequence[int]) -> int:
        """How many there would be with these."""
        holders = self._holders.get(replica, {})
        return len(holders) + sum(block not in holders for block in blocks)


@dataclass(frozen=True, slots=True)
class Seen:
    """What some peers look at and we do not; the lab writes it, a peer's rule reads it.

    `scraped`: the last scrape of each replica, none before the first one. `held`: kept for the peers that want it.
    """

    scraped: dict[ReplicaId, Scraped] = field(default_factory=dict)
    held: HeldBlocks = field(default_factory=HeldBlocks)


class Peer(Policy):
    """A rule that is nothing but its score: it explains nothing and learns nothing."""

    name: str
    unit: str = "score"

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def terms(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[Sequence[Term]]:
        return [[Term("score", score, "a peer's rule")] for score in self.score(facts, candidates, books, match)]

    def reason(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], scores: Sequence[float], chosen: int, match: Match
    ) -> str:
        return "peer"

    def record(self, facts: RequestFacts, chosen: ReplicaId) -> None:
        """Nothing to learn: the index and the books know."""


class Sglang(Peer):
    """The longest match if it is above 30 % of the prompt; else, or when loads differ too much, the fewest in flight.

    Source: sglang's router, `policies/cache_aware.rs`, with the defaults of its command line (0.3, 64, 1.5). Its
    earlier versions send a prompt that matches nowhere to the smallest tree, later ones to the least loaded, as here.
    """

    name = "sglang"
    CACHE_THRESHOLD = 0.3
    BALANCE_ABS = 64
    BALANCE_REL = 1.5

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        loads = [books[view.id].in_flight for view in candidates]
        depths = [match.depth(view.id) for view in candidates]
        ready = [i for i, view in enumerate(candidates) if view.state is ReplicaState.READY] or range(len(loads))
        most, least = max(loads[i] for i in ready), min(loads[i] for i in ready)
        unbalanced = most - least > self.BALANCE_ABS and most > self.BALANCE_REL * least
        matched = max(depths[i] for i in ready) * facts.block_tokens / facts.prompt_tokens
        if unbalanced or matched <= self.CACHE_THRESHOLD:
            return loads
        return [-depth for depth in depths]


class Gie(Peer):
    """Weighted scores from 0 to 1: 3 for the matched share, 2 for a short queue, 2 for a free KV cache.

    Queues are compared with the shortest and the longest one. Source: Gateway API Inference Extension's prefix-cache,
    queue and kv-cache-utilization scorers with the weights of llm-d's guides; metrics every 50 ms.
    """

    name = "gie"
    PREFIX, QUEUE, KV = 3.0, 2.0, 2.0

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        idle = Scraped(0, 0.0)
        scraped = [self._seen.scraped.get(view.id, idle) for view in candidates]
        queues = [one.waiting for one in scraped]
        shortest, longest = min(queues), max(queues)
        blocks = max(1, len(facts.blocks))
        return [
            -(
                self.PREFIX * match.depth(view.id) / blocks
                + self.QUEUE * ((longest - one.waiting) / (longest - shortest) if longest > shortest else 1.0)
                + self.KV * (1.0 - one.kv_usage)
            )
            for view, one in zip(candidates, scraped, strict=True)
        ]


class Dynamo(Peer):
    """Blocks to prefill there, this prompt's included, plus blocks held there by what is in flight, this one included.

    Source: NVIDIA Dynamo's KV router, `overlap_score_weight` 1 and temperature 0; a block that several requests share
    is held once. Its blocks of the replies so far are left out.
    """

    name = "dynamo"
    unit = "blocks"

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        return [
            (books[view.id].queued_tokens + facts.uncached_tokens(match.depth(view.id))) / facts.block_tokens
            + self._seen.held.count_with(view.id, facts.blocks)
            for view in candidates
        ]


class UncachedInFlight(Peer):
    """Tokens of this prompt that are not cached there, times the requests in flight there with this one."""

    name = "uncached_in_flight"
    unit = "tokens * requests"

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        return [facts.uncached_tokens(match.depth(view.id)) * (1 + books[view.id].in_flight) for view in candidates]
