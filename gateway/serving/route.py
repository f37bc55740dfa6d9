"""Where a request may go, and how far down the ranking it has come. Failover is "the next of the ranking"."""

from gateway.core.routing import Decision, remaining
from gateway.core.types import FleetSnapshot, Replica


class Route:
    """A decision being carried out; at most `max_attempts` of its replicas are asked."""

    __slots__ = ("_asked", "_decision", "_earlier", "_max_attempts", "resumed")

    def __init__(self, decision: Decision, max_attempts: int) -> None:
        self._decision = decision
        self._max_attempts = max_attempts
        self._asked = 0
        self._earlier: tuple[Replica, ...] = ()
        self.resumed = 0
        """Output tokens that the last resumed attempt did not have to make again."""

    def next(self) -> Replica:
        """The replica to ask now; only while `more`, and at first."""
        self._asked += 1
        return self._decision.ranked[self._asked - 1]

    def narrow(self, fleet: FleetSnapshot) -> None:
        """An attempt has failed: replicas that were put out since the decision are not asked any more."""
        self._decision = remaining(self._decision, self._asked, fleet)

    def again(self, decision: Decision) -> None:
        """What was asked has answered in part: another decision, for the rest, with as many attempts."""
        self._earlier = self.tried
        self._decision = decision
        self._asked = 0

    @property
    def more(self) -> bool:
        """Whether another replica may be asked."""
        return self._asked < min(self._max_attempts, len(self._decision.ranked))

    @property
    def tried(self) -> tuple[Replica, ...]:
        """All that were asked, in that order."""
        return self._earlier + self._decision.ranked[: self._asked]

    @property
    def attempts(self) -> int:
        return len(self._earlier) + self._asked

    @property
    def reason(self) -> str:
        """Why the first replica was chosen, in one word."""
        return self._decision.reason


def answer_lines(replica: Replica, reason: str, attempts: int) -> bytes:
    """The response headers that tell who answered, and why it was asked."""
    lines = f"x-gateway-replica: {replica.id}\r\nx-gateway-reason: {reason}\r\n"
    if attempts > 1:
        lines += f"x-gateway-attempts: {attempts}\r\n"
    return lines.encode()
