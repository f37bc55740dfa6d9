"""What one request has to say about the replicas that it was sent to; each word of it goes to the board."""

from gateway.clock import Clock
from gateway.core.fleet import Board
from gateway.core.hot import HotPrompts
from gateway.core.request import RequestFacts
from gateway.core.types import HealthReading, Replica, Sign

BUSY = 503
"""An engine whose queue is full says this (vLLM's `--max-num-queued-reqs`), and it is none the worse for it."""

_AT_ONCE = {"refused": Sign.REFUSED, "connect": Sign.BROKEN, "broken": Sign.BROKEN, "timeout": Sign.ERRED}
"""Reasons of an attempt's end that are the replica's own failure, whatever the request was. Not among them: `busy`;
`resume`, that it could not go on with another's answer; and `exhausted`, which is the gateway's."""

_IN_DOUBT = frozenset({"status", "stream"})
"""Reasons that may be the request's fault: they count once another replica has answered it, since a prompt that no
engine can take must not put one after the other out."""


class Witness:
    """Hears how each attempt of one request ended. That the client left is not told here: it is no sign."""

    __slots__ = ("_board", "_clock", "_doubted", "_hot", "_noted")

    def __init__(self, board: Board, hot: HotPrompts, clock: Clock) -> None:
        self._board = board
        self._hot = hot
        self._clock = clock
        self._doubted: list[Replica] = []
        self._noted = False

    def failed(self, replica: Replica, reason: str) -> None:
        """An attempt ended, by the `reason` of `gateway_retries_total`."""
        if reason in _IN_DOUBT:
            self._doubted.append(replica)
        elif reason in _AT_ONCE:
            self._tell(replica, _AT_ONCE[reason])

    def output(self, replica: Replica, status: int, facts: RequestFacts, now: float) -> None:
        """The first output of an attempt came, in an answer of this status, and went on to the client."""
        if status >= 400:
            return
        self._tell(replica, Sign.SERVED)
        for doubted in self._doubted:
            self._tell(doubted, Sign.ERRED)
        self._doubted.clear()
        if not self._noted:
            self._noted = True
            self._hot.note(facts, now)

    def _tell(self, replica: Replica, sign: Sign) -> None:
        self._board.fold(HealthReading(replica.id, sign, replica), self._clock.monotonic())
