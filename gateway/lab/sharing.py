"""What several gateways in front of one fleet tell each other, and how late."""

from collections.abc import Callable, Sequence
from functools import partial

from gateway.core.books import Entry
from gateway.core.request import RequestFacts
from gateway.lab.gateways import LabGateway
from gateway.lab.traces import TraceItem

Later = Callable[[float, Callable[[float], object]], object]
"""later(at, call): `call(at)` when it is that late."""


class Shared:
    """One attempt of a request as the other gateways hear of it: its entries in their books, once they know."""

    __slots__ = ("entries", "sender")

    def __init__(self, sender: int) -> None:
        self.sender = sender
        self.entries: list[Entry] = []


class Sharing:
    """Dispatch, first token and end of every attempt, each `delay_s` late and so in order; `None`: nothing is told."""

    def __init__(self, gateways: Sequence[LabGateway], delay_s: float | None, later: Later) -> None:
        self._gateways = gateways
        self._delay_s = delay_s if len(gateways) > 1 else None
        self._later = later

    def sent(self, now: float, sender: int, number: int, work_tokens: int, facts: RequestFacts) -> Shared:
        """Replica `number` was sent a request by gateway `sender`."""
        shared = Shared(sender)
        self._tell(now, partial(self._sent, shared, number, work_tokens, facts))
        return shared

    def first_token(self, now: float, shared: Shared) -> None:
        self._tell(now, partial(self._first_token, shared))

    def ended(self, now: float, shared: Shared, number: int, replied: TraceItem | None) -> None:
        """`replied`: what the replica holds in full now; `None`: the attempt has failed."""
        self._tell(now, partial(self._ended, shared, number, replied))

    def _tell(self, now: float, call: Callable[[float], object]) -> None:
        if self._delay_s is not None:
            self._later(now + self._delay_s, call)

    def _sent(self, shared: Shared, number: int, work_tokens: int, facts: RequestFacts, _now: float) -> None:
        for gateway in self._others(shared):
            shared.entries.append(gateway.told(number, work_tokens, facts))

    def _first_token(self, shared: Shared, _now: float) -> None:
        for entry in shared.entries:
            entry.first_token()

    def _ended(self, shared: Shared, number: int, replied: TraceItem | None, _now: float) -> None:
        for entry in shared.entries:
            entry.close()
        if replied is not None:
            for gateway in self._others(shared):
                gateway.replied(number, replied)

    def _others(self, shared: Shared) -> list[LabGateway]:
        return [gateway for number, gateway in enumerate(self._gateways) if number != shared.sender]
