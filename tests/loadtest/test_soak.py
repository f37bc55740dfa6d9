"""When `make soak` says that something has grown."""

import pytest

from loadtest.soak.verdict import FIGURES, Figure, growth, verdict
from loadtest.soak.watch import parse

MEMORY = Figure("resident", "MB", 3.0, 0.05)


def test_flat_is_flat() -> None:
    """Noise, a warm-up in the first quarter and a single peak are no growth; less is none either."""
    assert growth(MEMORY, [50.0] * 12) is None
    assert growth(MEMORY, [20, 40, 50, 51, 50, 49, 52, 50, 51, 50, 52, 50]) is None
    assert growth(MEMORY, [50, 50, 50, 50, 50, 50, 90, 50, 50, 50, 50, 50]) is None
    assert growth(MEMORY, [60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49]) is None


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_a_leak_is_told(step: float) -> None:
    """With what it was and what it is."""
    line = growth(MEMORY, [50 + step * n for n in range(12)])
    assert line is not None
    assert line.startswith("resident grew from ")
    assert "MB" in line


def test_slack_and_ratio_are_both_to_be_exceeded() -> None:
    """Three more of ten connections are noise; 5 % of a large process, too."""
    assert growth(MEMORY, [10.0] * 8 + [12.9] * 4) is None
    assert growth(MEMORY, [100.0] * 8 + [104.0] * 4) is None
    assert growth(Figure("in_flight", "", 0.0), [0.0] * 8 + [1.0] * 4)


def test_too_few_readings_are_no_good_news() -> None:
    """Neither are figures that were never told."""
    assert growth(MEMORY, [50.0] * 5) == "resident: 5 readings are too few to tell"
    assert len(verdict([])) == len(FIGURES)


def test_the_verdict_names_what_grew() -> None:
    """And nothing else."""
    flat = {figure.name: 10.0 for figure in FIGURES}
    assert verdict([flat] * 12) == []
    leaking = [flat | {"tasks": 10.0 + n} for n in range(12)]
    assert [line.split()[0] for line in verdict(leaking)] == ["tasks"]


def test_what_the_gateway_tells_is_summed_over_replicas() -> None:
    """What it does not tell is left out, not 0."""
    page = 'gateway_in_flight_requests{replica="a"} 1\ngateway_in_flight_requests{replica="b"} 2\nother 5\n'
    assert parse("# TYPE gateway_in_flight_requests gauge\n" + page) == {"in_flight": 3.0}
