from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from gateway.observability.loop_series import LoopCounter, LoopHistogram

BOUNDS = (0.01, 0.1, 1, 2.5)
VALUES = st.lists(st.sampled_from([0.0, *BOUNDS]) | st.floats(0, 10), max_size=20)


@given(VALUES, VALUES)
def test_its_series_are_the_librarys(first, second):
    """For any observations, bounds themselves included, a scrape reads what the library's histogram would say."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    quick = LoopHistogram("h", "Text.", ("a",), buckets=BOUNDS)
    ours.register(quick)
    slow = Histogram("h", "Text.", ("a",), buckets=BOUNDS, registry=theirs)
    for label, values in (("x", first), ("y", second)):
        for histogram in (quick, slow):
            child = histogram.labels(label)
            for value in values:
                child.observe(value)
    assert lines(ours) == lines(theirs)


@given(st.lists(st.tuples(st.sampled_from("xy"), st.floats(0, 1e6)), max_size=20))
def test_its_counts_are_the_librarys(counts):
    """For any increments a scrape reads what the library's counter would say."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    quick = LoopCounter("c_total", "Text.", ("a",))
    ours.register(quick)
    slow = Counter("c_total", "Text.", ("a",), registry=theirs)
    for label, amount in counts:
        quick.labels(label).inc(amount)
        slow.labels(label).inc(amount)
    assert lines(ours) == lines(theirs)


def test_a_counter_without_labels_begins_at_zero():
    """As the library's, it is there before anything is counted: `rate()` needs a first sample."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    ours.register(LoopCounter("c_total", "Text.", ()))
    Counter("c_total", "Text.", registry=theirs)
    assert lines(ours) == lines(theirs)


def lines(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_name_is_taken_once():
    """The registry knows its names before the first observation, as it does the library's."""
    quick = LoopHistogram("h", "Text.", ("a",), buckets=BOUNDS)
    assert [family.name for family in quick.describe()] == ["h"]
    assert quick.labels("x") is quick.labels("x")
