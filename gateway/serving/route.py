"""Where a request may go, and how far down the ranking it has come. Failover is "the next of the ranking"."""

from gateway.core.routing import Decision, remaining
from gateway.core.types import FleetSnapshot, Replica


class Route:
    """A decision being carried out; at most `max_attempts` of its replicas are asked."""

    __slots__ = ("_decision", "_max_attempts", "attempts")

    def __init__(self, decision: Decision, max_attempts: int) -> None:
        self._decision = decision
        self._max_attempts = max_attempts
        self.attempts = 0

    def next(self) -> Replica:
        """The replica to ask now; only while `more`, and at first."""
        self.attempts += 1
        return self.current

    def narrow(self, fleet: FleetSnapshot) -> None:
        """An attempt has failed: replicas that were put out since the decision are not asked any more."""
        self._decision = remaining(self._decision, self.attempts, fleet)

    @property
    def more(self) -> bool:
        """Whether another replica may be asked."""
        return self.attempts < min(self._max_attempts, len(self._decision.ranked))

    @property
    def current(self) -> Replica:
        """The replica asked last."""
        return self._decision.ranked[self.attempts - 1]

    @property
    def tried(self) -> tuple[Replica, ...]:
        return self._decision.ranked[: self.attempts]

    @property
    def reason(self) -> str:
        """Why the current replica was asked, in one word."""
        return self._decision.reason if self.attempts == 1 else "failover"

    @property
    def lines(self) -> bytes:
        """The response headers that tell who answered, and why it was asked."""
        lines = f"x-gateway-replica: {self.current.id}\r\nx-gateway-reason: {self.reason}\r\n"
        if self.attempts > 1:
            lines += f"x-gateway-attempts: {self.attempts}\r\n"
        return lines.encode()
