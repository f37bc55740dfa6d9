"""Deadlines are numbers that one timer looks at, and it looks when the next one is due."""

from math import inf

from gateway.serving.watchdog import Watchdog
from tests.telemetry.fakes import ManualClock


class Waiting:
    """Has a deadline; `told`: how often it heard that it has passed."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.told = 0

    def expired(self) -> None:
        self.told += 1
        self.deadline = inf


def test_who_is_past_its_deadline_hears_of_it_once() -> None:
    """And nobody else."""
    clock = ManualClock()
    watchdog = Watchdog(clock)
    early, late = Waiting(clock.now + 2.0), Waiting(clock.now + 60.0)
    watchdog.watched |= {early, late}
    watchdog.look()
    assert (early.told, late.told) == (0, 0)
    clock.now += 2.0
    watchdog.look()
    watchdog.look()
    assert (early.told, late.told) == (1, 0)


def test_a_look_says_when_the_next_one_is_due() -> None:
    """So that a stream that hangs is given up when its time is over, and not up to a quarter of a second later."""
    clock = ManualClock()
    watchdog = Watchdog(clock)
    assert watchdog.look() == inf
    watchdog.watched |= {Waiting(clock.now + 2.0), Waiting(clock.now + 0.05), Waiting(inf)}
    assert round(watchdog.look(), 6) == 0.05
    clock.now += 0.05
    assert round(watchdog.look(), 6) == 1.95
