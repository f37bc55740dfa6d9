"""Time as an interface: the shell holds a `Clock`, the core is handed `now`."""

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds for durations, wall-clock seconds for people."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class SystemClock:
    """The machine's clocks. `monotonic` is `time.perf_counter`, so that short stages have digits left."""

    __slots__ = ()

    monotonic = staticmethod(time.perf_counter)
    wall = staticmethod(time.time)
