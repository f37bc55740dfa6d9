"""When a second replica is asked, because the first one's first token is late.

Source: Dean and Barroso, The Tail at Scale: to wait for the 95th percentile bounds the extra load at a twentieth.
"""

from collections import deque

QUANTILE = 0.95
NEWEST = 200
"""So many of a model's newest answers tell how long a first token may take."""

LEAST = 20
"""With fewer, the 95th percentile is the slowest of them, and nothing is hedged."""

EACH = 10
"""So often the quantile is taken anew: sorting 200 numbers costs 10 µs."""

MAX_MODELS = 1024
"""Models beyond this are not hedged by percentile: memory stays flat."""


class Hedging:
    """`after_s`: seconds, or `p95` of each model's recent first tokens; `None`: no hedges."""

    def __init__(self, after_s: float | str | None = None) -> None:
        self.on = after_s is not None
        self._after_s = after_s
        self._recent: dict[str | None, _Recent] = {}

    def delay_s(self, model: str | None) -> float | None:
        """How long to wait for the first token before a second replica is asked; `None`: do not."""
        if not isinstance(self._after_s, str):
            return self._after_s
        recent = self._recent.get(model)
        return recent.quantile if recent is not None else None

    def observed(self, model: str | None, first_token_s: float) -> None:
        """A first token came so long after the request was sent."""
        if not isinstance(self._after_s, str):
            return
        recent = self._recent.get(model)
        if recent is None:
            if len(self._recent) >= MAX_MODELS:
                return
            recent = self._recent[model] = _Recent()
        recent.add(first_token_s)


class _Recent:
    __slots__ = ("_since", "_values", "quantile")

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=NEWEST)
        self._since = 0
        self.quantile: float | None = None

    def add(self, value: float) -> None:
        self._values.append(value)
        self._since += 1
        if self._since >= EACH and len(self._values) >= LEAST:
            self._since = 0
            self.quantile = sorted(self._values)[int(QUANTILE * (len(self._values) - 1))]
