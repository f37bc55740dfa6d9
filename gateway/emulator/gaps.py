"""Inter-token latencies without a list of every one of them."""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class ItlSummary:
    """Pairs (gap in seconds, how many gaps of that length), one for each stretch of alike steps.

    Within a stretch the mean stands for all; they differ by the growth of the KV cache only, some microseconds.
    """

    gaps: tuple[tuple[float, int], ...]

    @property
    def count(self) -> int:
        """Gaps in all: one for each token but the first of a request."""
        return sum(tokens for _gap, tokens in self.gaps)

    @property
    def longest_s(self) -> float | None:
        """`None`: there was no gap."""
        return max((gap for gap, _tokens in self.gaps), default=None)

    def quantile(self, share: float) -> float | None:
        """The smallest gap in seconds that at least `share` (0 to 1) of all do not exceed. `None`: there was none."""
        wanted = max(1, ceil(share * self.count))
        seen = 0
        for gap, tokens in sorted(self.gaps):
            seen += tokens
            if seen >= wanted:
                return gap
        return None
