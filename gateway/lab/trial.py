"""The rule as it might become: changes of `prefix` on trial, beside the rule that serves.

What they are for, and the runs that show it: docs/lab.md.
"""

from collections.abc import Sequence

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.policies.prefix import Prefix
from gateway.core.request import RequestFacts
from gateway.core.types import ReplicaView
from gateway.lab.peers import Seen

WAITING_TOKENS = 1500
"""Price of each request that waits in the engine for a place or for KV blocks: it has been promised a prefill, but what
it waits for is the end of another one, which takes far longer than its own few uncached tokens."""


class PrefixTrial(Prefix):
    """`prefix` with two changes: KV pressure costs at most what this request has to compute, since no more of it can be
    computed twice; and requests that wait in the engine have a price of their own."""

    name = "prefix_trial"

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    def score(
        self, facts: RequestFacts, candidates: Sequence[ReplicaView], books: Books, match: Match
    ) -> Sequence[float]:
        scraped = self._seen.scraped
        return [
            score + (WAITING_TOKENS * scraped[view.id].waiting if view.id in scraped else 0.0)
            for score, view in zip(super().score(facts, candidates, books, match), candidates, strict=True)
        ]

    def _shortage(self, view: ReplicaView, held_tokens: int, work: int) -> float:
        return min(work, super()._shortage(view, held_tokens, work))
