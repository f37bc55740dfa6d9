"""What may be added to the traffic, as a share of it."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.budget import RETRY_LEAST, RETRY_SHARE, Budget


def spent_at_once(budget: Budget, now: float) -> int:
    """How many are allowed, one behind the other."""
    count = 0
    while budget.allows(now) and count < 10_000:
        budget.spend(now)
        count += 1
    return count


@given(st.integers(0, 2000), st.floats(0, 1e6))
def test_a_share_of_what_came(requests, now):
    """And a few more, for a quiet gateway."""
    budget = Budget.of_retries()
    for _ in range(requests):
        budget.came(now)
    assert abs(spent_at_once(budget, now) - (RETRY_SHARE * requests + RETRY_LEAST)) <= 1


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), min_size=1, max_size=300))
def test_hedges_never_pass_their_share(steps):
    """However requests and hedges follow each other: at no time more than a twentieth of what has come."""
    budget, now, spent = Budget.of_hedges(), 0.0, 0
    for came, (wait, wants) in enumerate(steps, 1):
        now += wait
        budget.came(now)
        if wants and budget.allows(now):
            budget.spend(now)
            spent += 1
        assert spent <= 0.05 * came + 1e-6


def test_what_was_spent_is_forgotten():
    """A sick fleet is asked again after a while, and traffic of long ago allows nothing."""
    budget = Budget(0.2, 5, 10)
    assert spent_at_once(budget, 0.0) == 5
    assert not budget.allows(1.0)
    assert budget.allows(10.0)
    busy = Budget(0.2, 0, 10)
    for _ in range(100):
        busy.came(0.0)
    assert busy.allows(1.0)
    assert not busy.allows(100.0)


def test_a_clock_that_stands_still_changes_nothing():
    """Nor one that is a little behind."""
    budget = Budget(0.5, 0, 10)
    for _ in range(4):
        budget.came(5.0)
    assert budget.allows(4.9)
    assert repr(budget) == "<Budget 0.0 spent of 2.0>"
