"""How much may be added to the traffic: retries and hedges are a share of it, so that a sick fleet is not hammered.

Source: Finagle's retry budget and Envoy's: a share of recent requests, and a few on top, so that a quiet gateway may
retry at all.
"""

from math import exp

RETRY_SHARE, RETRY_LEAST, RETRY_WITHIN_S = 0.2, 30.0, 10.0
"""A fifth of the requests of about the last ten seconds, and 30 more: Finagle's share; its floor is 10 a second."""

HEDGE_SHARE, HEDGE_LEAST, HEDGE_WITHIN_S = 0.05, 0.0, 100.0
"""A twentieth of the load, and nothing on top: a hedge is never needed. Over longer, for quiet gateways."""


class Budget:
    """Counts what came and what was spent, the older the less: after `within_s` a count has lost 63 %."""

    __slots__ = ("_at", "_came", "_least", "_share", "_spent", "_within_s")

    def __init__(self, share: float, least: float, within_s: float) -> None:
        self._share = share
        self._least = least
        self._within_s = within_s
        self._came = self._spent = 0.0
        self._at = 0.0

    @classmethod
    def of_retries(cls) -> "Budget":
        return cls(RETRY_SHARE, RETRY_LEAST, RETRY_WITHIN_S)

    @classmethod
    def of_hedges(cls) -> "Budget":
        return cls(HEDGE_SHARE, HEDGE_LEAST, HEDGE_WITHIN_S)

    def came(self, now: float) -> None:
        """A request came at monotonic second `now`."""
        self._fade(now)
        self._came += 1

    def allows(self, now: float) -> bool:
        """Whether one more may be spent."""
        self._fade(now)
        return self._spent + 1 <= self._share * self._came + self._least

    def spend(self, now: float) -> None:
        self._fade(now)
        self._spent += 1

    def _fade(self, now: float) -> None:
        if now > self._at:
            left = exp((self._at - now) / self._within_s)
            self._came *= left
            self._spent *= left
            self._at = now

    def __repr__(self) -> str:
        return f"<Budget {self._spent:.1f} spent of {self._share * self._came + self._least:.1f}>"
