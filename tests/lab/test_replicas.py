"""A replica that can be slowed, die and come back."""

import pytest

from gateway.emulator.engine import EngineParams
from gateway.lab.replicas import LabReplica
from gateway.lab.setup import Throttle
from tests.lab.fleets import item

REQUEST = item(prompt=2000, output=20).engine_request


def served(replica: LabReplica, name: str, at: float) -> float:
    """How long it takes a replica that is idle to finish one request."""
    replica.submit(REQUEST(name), at)
    end = at
    while (news := replica.next_at()) is not None:
        end = replica.advance(news)[-1].at
    return end - at


def test_speed_scales_time() -> None:
    even, half = (LabReplica(EngineParams(), 100_000, speed) for speed in (1.0, 0.5))
    assert served(half, "a", 0.0) == pytest.approx(2 * served(even, "a", 0.0))


def test_throttles_come_multiply_and_go() -> None:
    """Two at once multiply; a clock alone is what telemetry tells."""
    replica = LabReplica(EngineParams(), 100_000, 1.0)
    cold = served(replica, "cold", 0.0)
    warm = served(replica, "warm", 10.0)
    assert warm < cold
    first, second = Throttle(0, 0, 1, clock=0.5, memory=0.5), Throttle(0, 0, 1, clock=0.5, memory=0.5)
    replica.throttle(first)
    assert served(replica, "slow", 20.0) == pytest.approx(2 * warm)
    replica.throttle(second)
    assert replica.clock() == 0.25
    assert served(replica, "slower", 40.0) == pytest.approx(4 * warm)
    replica.relieve(first)
    replica.relieve(second)
    assert (replica.clock(), served(replica, "warm again", 60.0)) == (1.0, pytest.approx(warm))


def test_death_takes_the_cache_and_what_was_running() -> None:
    """It answers nothing and takes nothing while it is dead; its counts stay."""
    replica = LabReplica(EngineParams(), 100_000, 1.0)
    cold = served(replica, "a", 0.0)
    busy = replica.busy_s
    assert busy == pytest.approx(cold)
    replica.submit(REQUEST("b"), 10.0)
    replica.stop(10.01)
    replica.stop(11.0)
    assert replica.busy_s == pytest.approx(busy + 0.01)
    assert (replica.next_at(), replica.advance(12.0), replica.scrape()) == (None, (), None)
    assert not replica.takes(REQUEST("c"))
    replica.throttle(Throttle(0, 0, 1, clock=0.5))
    gaps = replica.itl().count
    replica.start()
    assert replica.clock() == 0.5
    replica.relieve(Throttle(0, 0, 1, clock=0.5))
    assert served(replica, "d", 20.0) == pytest.approx(cold)
    assert replica.itl().count == gaps + 19
    assert replica.preemptions == 0


def test_what_never_fits_is_not_taken() -> None:
    replica = LabReplica(EngineParams(), 2020, 1.0)
    assert not replica.takes(REQUEST("a"))
    assert LabReplica(EngineParams(), 2032, 1.0).takes(REQUEST("a"))
