"""What a load of 1 is."""

from dataclasses import replace

import pytest

from gateway.emulator.engine import EngineParams
from gateway.lab.capacity import capacity
from gateway.lab.setup import Setup
from gateway.lab.sources import Source
from gateway.lab.traces import TraceItem
from tests.lab.fleets import item


def steady(rate_per_s: float, duration_s: float, _seed: int) -> list[TraceItem]:
    """Prompts of 1,000 tokens that nobody shares, evenly spaced."""
    count = int(rate_per_s * duration_s)
    return [item(n / rate_per_s, prompt=1000, output=1, topic=n, own=n) for n in range(count)]


STEADY = Source("steady", steady)
SLOW = replace(EngineParams(), token_s=0.5e-3)
"""Such a prompt takes it half a second."""


@pytest.mark.slow
def test_the_rate_that_is_just_stable() -> None:
    trials: list[None] = []
    found = capacity(STEADY, Setup(replicas=1, params=SLOW), 1, lambda: trials.append(None))
    assert found == pytest.approx(2, rel=0.06)
    assert trials


@pytest.mark.slow
def test_large_fleets_are_as_many_times_a_small_one() -> None:
    """And what is wrong with this fleet does not change what it could take."""
    four, forty = (capacity(STEADY, Setup(replicas=n, params=SLOW, speeds=(0.5,)), 1) for n in (4, 40))
    assert forty == 10 * four


def test_a_trace_that_is_too_short() -> None:
    """However fast its one request comes, nothing queues."""
    with pytest.raises(ValueError, match="short is too short to find the fleet's capacity: give a rate"):
        capacity(Source("short", lambda *_: [item()]), Setup(), 1)


def test_a_trace_that_fits_nowhere() -> None:
    tiny = Setup(params=replace(EngineParams(), kv_tokens=160))
    with pytest.raises(ValueError, match="fits into a replica's KV cache"):
        capacity(STEADY, tiny, 1)
