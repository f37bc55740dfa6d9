"""One page of several processes' metrics."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from gateway.observability.sums import Sums

COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=5)


def page(requests: int, temperature: float = 40.0, label: str = "r0") -> bytes:
    """What a process shows that has ended so many requests, each of half a second."""
    registry = CollectorRegistry()
    counter = Counter("gateway_requests_total", "Requests.", ["replica"], registry=registry)
    counter.labels(label).inc(requests)
    histogram = Histogram("gateway_request_duration_seconds", "Time.", ["model"], buckets=(0.1, 1), registry=registry)
    for _ in range(min(requests, 3)):
        histogram.labels("m").observe(0.5)
    Gauge("gateway_in_flight_requests", "Now.", ["replica"], registry=registry).labels(label).set(requests % 7)
    gauge = Gauge("gateway_gpu_temperature_celsius", "Hot.", ["gpu"], registry=registry)
    gauge.labels("0").set(temperature)
    return generate_latest(registry)


def value(text: bytes, series: str) -> float | None:
    lines = [line for line in text.decode().splitlines() if line.startswith(f"{series} ")]
    return float(lines[0].split()[-1]) if lines else None


@given(COUNTS)
def test_counts_add_up_and_readings_do_not(counts: list[int]) -> None:
    """Counters, buckets and what is in flight are sums; a temperature is the first process's."""
    text = Sums().render(page(number, 40.0 + i) for i, number in enumerate(counts))
    assert value(text, 'gateway_requests_total{replica="r0"}') == sum(counts)
    assert value(text, 'gateway_in_flight_requests{replica="r0"}') == sum(number % 7 for number in counts)
    observed = sum(min(number, 3) for number in counts)
    assert (value(text, 'gateway_request_duration_seconds_bucket{le="1.0",model="m"}') or 0) == observed
    assert value(text, 'gateway_gpu_temperature_celsius{gpu="0"}') == 40.0


@given(COUNTS, st.integers(0, 4))
def test_no_counter_goes_back_when_processes_end(counts: list[int], ended: int) -> None:
    """Prometheus would take it for a restart and count everything twice. What was in flight there is gone."""
    sums = Sums()
    for number in counts[:ended]:
        sums.keep(page(number))
    text = sums.render(map(page, counts[ended:]))
    assert value(text, 'gateway_requests_total{replica="r0"}') == sum(counts)
    in_flight = value(text, 'gateway_in_flight_requests{replica="r0"}') or 0
    assert in_flight == sum(number % 7 for number in counts[ended:])


def test_series_of_one_process_alone_are_shown() -> None:
    """Processes see different replicas first; one that died before it showed a page adds nothing."""
    sums = Sums()
    sums.keep(b"")
    text = sums.render([page(1, label="a"), page(2, label="b")])
    assert value(text, 'gateway_requests_total{replica="a"}') == 1
    assert value(text, 'gateway_requests_total{replica="b"}') == 2


def test_one_page_stays_as_it_is() -> None:
    """Names, types, labels and their order survive being read and written again."""
    shown = page(3)
    assert Sums().render([shown]) == shown
