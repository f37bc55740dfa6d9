import time

from gateway.clock import Clock, SystemClock


def test_monotonic_never_goes_back():
    """A later reading of the monotonic clock is never smaller."""
    clock: Clock = SystemClock()
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)


def test_wall_is_seconds_since_the_epoch():
    """The wall clock lies between two readings of the machine's own."""
    before, now, after = time.time(), SystemClock().wall(), time.time()
    assert before <= now <= after
