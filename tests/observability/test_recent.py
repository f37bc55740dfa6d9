"""The dashboard's rolling figures: the last minute, bounded."""

import pytest

from gateway.observability.recent import MAX_SAMPLES, Recent
from gateway.observability.records import RequestRecord


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def end(replica: str | None = "r0", *, ttft_s: float | None = 0.1, status: int = 200, **more: object) -> RequestRecord:
    return RequestRecord(time=0.0, request_id="x", replica=replica, ttft_s=ttft_s, status=status, **more)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def recent(time: Time) -> Recent:
    return Recent(time)


def test_nothing_is_known_before_the_first_request(recent: Recent) -> None:
    """Quantiles are None, never 0; counts and rates are 0."""
    figures = recent.figures("r0")
    assert (figures.ttft_p50_s, figures.ttft_p95_s, figures.tpot_p50_s) == (None, None, None)
    assert (figures.requests, figures.requests_per_s, figures.tokens_per_s) == (0, 0.0, 0.0)


@pytest.mark.parametrize(("count", "p50", "p95"), [(1, 1, 1), (2, 1, 2), (20, 10, 19), (100, 50, 95)])
def test_quantiles_are_nearest_rank(recent: Recent, count: int, p50: float, p95: float) -> None:
    """The smallest sample that this share of all does not exceed."""
    for i in range(count, 0, -1):
        recent.add(end(ttft_s=float(i)))
    figures = recent.figures("r0")
    assert (figures.ttft_p50_s, figures.ttft_p95_s) == (p50, p95)


def test_samples_leave_the_window_but_totals_stay(recent: Recent, time: Time) -> None:
    """After a minute the quantiles are unknown again; the request is still counted."""
    recent.add(end(tpot_s=0.02))
    time.now += 60.5
    figures = recent.figures("r0")
    assert (figures.requests, figures.ttft_p50_s, figures.tpot_p50_s, figures.requests_per_s) == (1, None, None, 0.0)


def test_replicas_are_apart_and_the_gateway_is_their_sum(recent: Recent) -> None:
    """A request that reached no replica is the gateway's alone."""
    recent.add(end("r0", ttft_s=1.0))
    recent.add(end("r1", ttft_s=3.0, status=502))
    recent.add(end(None, ttft_s=None, status=503))
    assert recent.figures("r0").ttft_p95_s == 1.0
    assert recent.figures("r1").failures == 1
    assert (recent.figures().requests, recent.figures().failures, recent.figures().ttft_p95_s) == (3, 2, 3.0)


@pytest.mark.parametrize(("status", "failed"), [(200, 0), (404, 0), (429, 0), (499, 0), (500, 1), (504, 1)])
def test_the_clients_mistakes_are_no_failures(recent: Recent, status: int, failed: int) -> None:
    """Neither is its leaving."""
    recent.add(end(status=status))
    assert recent.figures().failures == failed


def test_rates_of_a_young_gateway(recent: Recent, time: Time) -> None:
    """Ten seconds after the start, ten requests are one a second, not ten a minute."""
    for _ in range(10):
        recent.add(end(completion_tokens=50))
    time.now += 10
    figures = recent.figures("r0")
    assert (figures.requests_per_s, figures.tokens_per_s) == (1.0, 50.0)


def test_rates_over_a_whole_minute(recent: Recent, time: Time) -> None:
    """Once the gateway is older than the window, the window divides."""
    time.now += 600
    for _ in range(30):
        recent.add(end(completion_tokens=4))
    figures = recent.figures()
    assert (figures.requests_per_s, figures.tokens_per_s) == (0.5, 2.0)


def test_more_requests_than_are_kept(recent: Recent, time: Time) -> None:
    """A hundred requests a second are shown as such, although a minute of them is not kept."""
    time.now += 600
    for _ in range(3 * MAX_SAMPLES):
        time.now += 0.01
        recent.add(end())
    figures = recent.figures("r0")
    assert figures.requests == 3 * MAX_SAMPLES
    assert figures.requests_per_s == pytest.approx(100, rel=0.01)
