"""What one request has to say about the replicas that it was sent to; each word of it goes to the board."""

import errno
import re

from gateway.clock import Clock
from gateway.core.fleet import Board
from gateway.core.hot import HotPrompts
from gateway.core.request import RequestFacts
from gateway.core.types import HealthReading, ReplicaId, Sign

BUSY = 503
"""An engine whose queue is full says this (vLLM's `--max-num-queued-reqs`), and it is none the worse for it."""

_AT_ONCE = {"refused": Sign.REFUSED, "connect": Sign.BROKEN, "broken": Sign.BROKEN, "timeout": Sign.ERRED}
"""Reasons of an attempt's end that are the replica's own failure, whatever the request was. Not among them: `busy`, and
`exhausted`, which is the gateway's."""

_IN_DOUBT = frozenset({"status", "stream"})
"""Reasons that may be the request's fault: they count once another replica has answered it, since a prompt that no
engine can take must not put one after the other out."""


_OUR_OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


def dial_reason(error: OSError) -> str:
    """Why a dial failed: `refused` (nobody listens), `exhausted` (the gateway has no descriptor or port left), or
    `connect`. A name with several addresses has failed by as many errors, which asyncio and uvloop put into words."""
    errors = {error.errno} if error.errno else {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}
    if errors == {errno.ECONNREFUSED}:
        return "refused"
    return "exhausted" if errors & _OUR_OWN else "connect"


class Witness:
    """Hears how each attempt of one request ended. That the client left is not told here: it is no sign."""

    __slots__ = ("_answering", "_board", "_clock", "_doubted", "_facts", "_hot")

    def __init__(self, board: Board, hot: HotPrompts, clock: Clock) -> None:
        self._board = board
        self._hot = hot
        self._clock = clock
        self._doubted: list[ReplicaId] = []
        self._answering: ReplicaId | None = None
        self._facts: RequestFacts | None = None

    def failed(self, replica: ReplicaId, reason: str) -> None:
        """An attempt ended, by the `reason` of `gateway_retries_total`."""
        self._answering = None
        if reason in _IN_DOUBT:
            self._doubted.append(replica)
        elif reason in _AT_ONCE:
            self._tell(replica, _AT_ONCE[reason])

    def answers(self, replica: ReplicaId, status: int, facts: RequestFacts) -> None:
        """The head of an answer has come that is passed on. Of a stream it says nothing yet."""
        if status < 400:
            self._answering, self._facts = replica, facts

    def output(self, now: float) -> None:
        """Output came, and went on to the client. Only the first time counts."""
        replica, facts = self._answering, self._facts
        if replica is None or facts is None:
            return
        self._answering = None
        self._tell(replica, Sign.SERVED)
        for doubted in self._doubted:
            self._tell(doubted, Sign.ERRED)
        self._hot.note(facts, now)

    def _tell(self, replica: ReplicaId, sign: Sign) -> None:
        self._board.fold(HealthReading(replica, sign), self._clock.monotonic())
