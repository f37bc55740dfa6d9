"""When a second replica is asked."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.hedging import LEAST, MAX_MODELS, NEWEST, Hedging


def test_off_and_by_a_number():
    """What was seen makes no difference."""
    for after in (None, 0.3):
        hedging = Hedging(after)
        for _ in range(NEWEST):
            hedging.observed("m", 9.0)
        assert hedging.delay_s("m") == after


@given(st.lists(st.floats(0.001, 10), min_size=NEWEST, max_size=3 * NEWEST))
def test_by_percentile(values):
    """A twentieth of the newest first tokens came later, or nearly: it is taken anew at each tenth."""
    hedging = Hedging("p95")
    for value in values:
        hedging.observed("m", value)
    delay = hedging.delay_s("m")
    assert delay is not None
    newest = values[-NEWEST:]
    assert sum(value > delay for value in newest) <= 0.05 * NEWEST + 11
    assert sum(value >= delay for value in newest) >= 0.05 * NEWEST - 11


def test_each_model_has_its_own():
    """And needs some answers first."""
    hedging = Hedging("p95")
    for _ in range(LEAST - 1):
        hedging.observed("quick", 0.1)
    assert hedging.delay_s("quick") is None
    for _ in range(LEAST):
        hedging.observed("quick", 0.1)
        hedging.observed("slow", 2.0)
    assert (hedging.delay_s("quick"), hedging.delay_s("slow"), hedging.delay_s("other")) == (0.1, 2.0, None)


def test_names_without_end():
    """Cost no memory without end."""
    hedging = Hedging("p95")
    for number in range(MAX_MODELS + 10):
        for _ in range(2 * LEAST):
            hedging.observed(str(number), 1.0)
    assert hedging.delay_s(str(MAX_MODELS - 1)) == 1.0
    assert hedging.delay_s(str(MAX_MODELS)) is None
