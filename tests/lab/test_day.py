"""A day rises and falls as it says, has its throttle and its death, and leaves nothing behind."""

from random import Random

import pytest

from gateway.emulator.engine import EngineParams
from gateway.lab.day import COURSE, HOURS, PEAK, Day, Hour, day, events, load_at, trace
from gateway.lab.entrants import ENTRANTS
from gateway.lab.figures import Slo
from gateway.lab.setup import Setup

DAY_S = 480.0


def test_the_course_is_a_line_through_its_points_day_after_day() -> None:
    assert all(load_at(hour) == pytest.approx(load) for hour, load in COURSE)
    assert load_at(2) == pytest.approx((load_at(0) + load_at(4)) / 2)
    assert load_at(-4) == pytest.approx(load_at(20)) == pytest.approx(load_at(44)) == pytest.approx(PEAK)


def test_requests_come_in_order_and_follow_the_course() -> None:
    """Three hours about the peak have as many more than three at night as the course says, sessions' length aside."""
    arrivals = [item.arrival_s for item in trace(Random(1), 40.0, 4800.0)]
    assert arrivals == sorted(arrivals)
    assert 0 <= arrivals[0] < arrivals[-1] < 4800

    def asked(start: float, end: float) -> float:
        return sum(start <= at / 200 < end for at in arrivals) / (end - start)

    assert asked(19, 22) / asked(3, 6) == pytest.approx(0.9 / 0.26, rel=0.2)
    assert asked(20, 21) / 200 == pytest.approx(40, rel=0.2)


def run(seed: int = 1, setup: Setup | None = None) -> tuple[Day, list[Hour]]:
    told: list[Hour] = []
    done = day(ENTRANTS["prefix"], events(setup or Setup(), DAY_S), 30.0, DAY_S, seed, Slo(), told.append)
    return done, told


def test_a_short_day_ends_with_empty_books() -> None:
    """Each request is in one hour; streams break in the hour of the death alone, and its cache is gone after it."""
    done, told = run()
    assert told == done.hours
    assert [hour.hour for hour in done.hours] == list(range(HOURS))
    assert sum(hour.requests for hour in done.hours) == len(list(trace(Random(1), 30.0, DAY_S)))
    assert done.open_entries == done.hours[-1].in_flight == 0
    assert all(hour.in_flight > 0 for hour in done.hours[:-1])
    assert [hour.hour for hour in done.hours if hour.failed] == [18]
    assert 0 < done.index_blocks <= done.index_bound
    assert done.sound


def test_what_is_left_over_is_not_sound() -> None:
    assert not Day(hours=[], open_entries=1, index_blocks=1, index_bound=1).sound
    assert not Day(hours=[], open_entries=0, index_blocks=2, index_bound=1).sound


def test_a_day_needs_two_replicas() -> None:
    with pytest.raises(ValueError, match="there is no replica 1"):
        events(Setup(replicas=1, params=EngineParams()), DAY_S)
