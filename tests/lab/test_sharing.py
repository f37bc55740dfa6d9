"""What gateways hear of each other."""

from collections.abc import Callable

import pytest

from gateway.core.types import ReplicaId
from gateway.lab.gateways import LabGateway
from gateway.lab.peers import ENTRANTS
from gateway.lab.sharing import Sharing
from tests.lab.fleets import facts_of, item

TURN = item(output=640)
FACTS = facts_of(TURN)
R0 = ReplicaId("r0")


class Events:
    """What happens later, and when."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[float], object]]] = []

    def later(self, at: float, call: Callable[[float], object]) -> None:
        self.waiting.append((at, call))

    def pass_until(self, now: float) -> None:
        due = [one for one in self.waiting if one[0] <= now]
        self.waiting = [one for one in self.waiting if one[0] > now]
        for at, call in due:
            call(at)


def gateways(count: int) -> list[LabGateway]:
    return [LabGateway(ENTRANTS["prefix"], [100_000]) for _ in range(count)]


def test_the_others_hear_late() -> None:
    """Dispatch, first token and end, each by the delay; the sender's own books are its own affair."""
    events, fleet = Events(), gateways(2)
    sharing = Sharing(fleet, 0.25, events.later)
    other = fleet[1]
    shared = sharing.sent(1.0, 0, 0, 500, FACTS)
    sharing.first_token(2.0, shared)
    sharing.ended(3.0, shared, 0, TURN)
    events.pass_until(1.2)
    assert other.books.total_in_flight() == 0
    events.pass_until(1.25)
    assert (other.books[R0].queued_tokens, other.books[R0].held_tokens) == (500, 1280)
    assert other.index.blocks(R0) == 10
    events.pass_until(2.25)
    assert (other.books[R0].queued_tokens, other.books.total_in_flight()) == (0, 1)
    events.pass_until(3.25)
    assert (other.books.total_in_flight(), other.index.blocks(R0)) == (0, 15)
    assert (fleet[0].books.total_in_flight(), fleet[0].index.blocks(R0)) == (0, 0)


def test_a_failure_teaches_no_reply() -> None:
    events, fleet = Events(), gateways(2)
    sharing = Sharing(fleet, 0.0, events.later)
    sharing.ended(1.0, sharing.sent(1.0, 1, 0, 500, FACTS), 0, None)
    events.pass_until(1.0)
    assert (fleet[0].books.total_in_flight(), fleet[0].index.blocks(R0)) == (0, 10)


@pytest.mark.parametrize(("count", "delay"), [(1, 0.25), (3, None)])
def test_nothing_is_told_where_nobody_listens(count: int, delay: float | None) -> None:
    events = Events()
    sharing = Sharing(gateways(count), delay, events.later)
    shared = sharing.sent(0.0, 0, 0, 500, FACTS)
    sharing.first_token(0.0, shared)
    sharing.ended(0.0, shared, 0, TURN)
    assert events.waiting == []
