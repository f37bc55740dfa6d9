"""What the last minute looked like, for people; Prometheus keeps the rest. Bounded, and one append on the hot path."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.observability.records import RequestRecord

WINDOW_S = 60.0
MAX_SAMPLES = 2048
"""Samples beyond this number push out the oldest: the figures then speak of less than a minute, but rightly."""

SHORTEST_SPAN_S = 1.0
"""A rate over less would jump with every request."""


@dataclass(slots=True)
class Account:
    """One replica's (or the gateway's) totals, and its recent ends as (at, ttft_s, tpot_s, completion_tokens)."""

    requests: int = 0
    failures: int = 0
    ends: "deque[tuple[float, float | None, float | None, int]]" = field(
        default_factory=lambda: deque(maxlen=MAX_SAMPLES)
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """An account, read at one moment. Quantiles are `None` without samples; rates are per second of the window."""

    requests: int
    failures: int
    requests_per_s: float
    tokens_per_s: float
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tpot_p50_s: float | None


class Recent:
    """Listens to the ledger."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began_at = now()
        self._accounts: dict[str | None, Account] = {}

    def add(self, record: RequestRecord) -> None:
        end = (self._now(), record.ttft_s, record.tpot_s, record.completion_tokens or 0)
        # 499 is the client's own doing, and a 4xx the client's mistake.
        failed = record.status >= 500
        for name in (None,) if record.replica is None else (None, record.replica):
            account = self._accounts.get(name)
            if account is None:
                account = self._accounts[name] = Account()
            account.requests += 1
            account.failures += failed
            account.ends.append(end)

    def replicas(self) -> set[str]:
        """The replicas that have an account."""
        return {name for name in self._accounts if name is not None}

    def forget(self, replica: str) -> None:
        """Drop what is known of a replica that has left."""
        self._accounts.pop(replica, None)

    def figures(self, replica: str | None = None) -> Figures:
        """The figures of a replica, of the whole gateway for `None`."""
        account = self._accounts.get(replica, Account())
        now = self._now()
        ends = [end for end in account.ends if end[0] >= now - WINDOW_S]
        span_s = self._span_s(account, now)
        ttft = sorted(end[1] for end in ends if end[1] is not None)
        tpot = sorted(end[2] for end in ends if end[2] is not None)
        return Figures(
            requests=account.requests,
            failures=account.failures,
            requests_per_s=len(ends) / span_s,
            tokens_per_s=sum(end[3] for end in ends) / span_s,
            ttft_p50_s=_quantile(ttft, 0.5),
            ttft_p95_s=_quantile(ttft, 0.95),
            tpot_p50_s=_quantile(tpot, 0.5),
        )

    def _span_s(self, account: Account, now: float) -> float:
        """How long the samples in the window were gathered: less than the window after a start and when many came."""
        full = len(account.ends) == MAX_SAMPLES
        since = max(self._began_at, account.ends[0][0]) if full else self._began_at
        return min(WINDOW_S, max(SHORTEST_SPAN_S, now - since))


def _quantile(ordered: list[float], share: float) -> float | None:
    """The nearest-rank quantile: the smallest sample that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
