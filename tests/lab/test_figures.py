"""The figures of a run, by hand."""

from dataclasses import replace

import pytest

from gateway.emulator.engine import ItlSummary
from gateway.lab.figures import Slo, figures, quantile
from gateway.lab.setup import Setup
from gateway.lab.simulate import Ended, Run
from tests.lab.fleets import item

ITEM = item(prompt=1000, output=11)
GOOD = Ended(ITEM, 0, 0.2, 0.6, 500)
RUN = Run("prefix", Setup(replicas=2), [], ItlSummary(()), 3, [0.0, 0.0])


def run(*ended: Ended, **more: object) -> Run:
    return replace(RUN, ended=list(ended), **more)


def test_an_slo_wants_both() -> None:
    """First token within 0.2 s, and 0.4 s for the ten others: 0.04 s each."""
    assert Slo(0.2, 0.05).met(GOOD)
    assert not Slo(0.1, 0.05).met(GOOD)
    assert not Slo(0.2, 0.03).met(GOOD)
    assert not Slo().met(replace(GOOD, failure="broken"))
    assert not Slo().met(replace(GOOD, first_s=None, failure="refused"))
    single = Ended(item(prompt=1000, output=1), 0, 0.2, 0.2, 0)
    assert Slo(0.2, 1e-9).met(single)


def test_the_figures_of_a_window() -> None:
    """Of three requests, the first came before the window, and one was refused."""
    late = Ended(item(5.0, prompt=1000, output=11), 1, 5.5, 6.0, 250)
    refused = Ended(item(6.0), 1, None, 6.0, None, "refused")
    found = figures(run(GOOD, late, refused, itl=ItlSummary(((0.02, 10), (0.5, 1)))), Slo(0.5, 0.05), (1.0, 10.0))
    assert (found.requests, found.failed, found.goodput_ratio) == (2, 1, 0.5)
    assert (found.ttft_p50_s, found.ttft_p99_s) == (0.5, 0.5)
    assert (found.hit_ratio, found.itl_p99_s, found.preemptions) == (0.25, 0.5, 3)
    assert found.busiest_work_ratio == 2.0


def test_how_even_the_fleet_was() -> None:
    """Work: 500 tokens computed on one replica and 750 on the other, and ten tokens decoded on each."""
    other = Ended(ITEM, 1, 0.3, 0.7, 250)
    found = figures(run(GOOD, other, busy_s=[3.0, 1.0]), Slo())
    decode = 11 * (12e-6 + 23e-6 + 1005.5 * 48e-9)
    first, second = 500 * 23e-6 + decode, 750 * 23e-6 + decode
    assert found.busiest_work_ratio == pytest.approx(second / ((first + second) / 2))
    assert found.busiest_time_ratio == 1.5


def test_what_was_not_measured_is_not_known() -> None:
    """An empty window has no figures, and no zeros for them."""
    found = figures(run(GOOD), Slo(), (9.0, 10.0))
    assert found.requests == 0
    unknown = (found.ttft_p99_s, found.itl_p99_s, found.goodput_ratio, found.hit_ratio, found.busiest_work_ratio)
    assert unknown == (None,) * 5


def test_quantiles_are_values_that_occurred() -> None:
    assert [quantile(range(1, 101), share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([], 0.5) is None
