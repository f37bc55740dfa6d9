"""What a run simulates besides its trace: replicas, gateways, and what happens to them when."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.emulator.engine import EngineParams

HARDWARE_GPUS = {"8b-h100": 1, "70b-fp8-2h100": 2}
"""GPUs of a replica, by the engine's name. 8B fits on one, so that PCIe will do; 70B wants a pair with NVLink."""

SCRAPE_S = 0.25
"""Seconds between two readings of an engine's metrics; `telemetry.engine.interval_s` of the config."""

TELEMETRY_S = 1.0
"""Seconds until a gateway that reads GPU telemetry has noticed a throttle; `telemetry.gpu.interval_s` of the config."""

FOREVER = float("inf")

_THROTTLE = re.compile(r"r?(\d+)@([\d.]+)-([\d.]*):(.+)")
_KILL = re.compile(r"r?(\d+)@([\d.]+)-([\d.]*)")


@dataclass(frozen=True, slots=True)
class Throttle:
    """Replica `replica` (0 is the first) runs at these shares of its speed from `start_s` until `end_s`."""

    replica: int
    start_s: float
    end_s: float
    clock: float = 1.0
    memory: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Throttle":
        """From `2@20-40:clock=0.4,memory=0.7`; no end: until the run's. ValueError says what was expected."""
        found = _THROTTLE.fullmatch(text)
        expected = f"expected REPLICA@FROM-TO:clock=SHARE,memory=SHARE such as 2@20-40:clock=0.4, got {text!r}"
        if found is None:
            raise ValueError(expected)
        shares = pairs(found[4], ("clock", "memory"), expected)
        start, end = span(found[2], found[3], expected)
        return cls(int(found[1]), start, end, shares.get("clock", 1.0), shares.get("memory", 1.0))


@dataclass(frozen=True, slots=True)
class Kill:
    """Replica `replica` dies at `start_s` with all it has, and is back with an empty cache at `end_s`."""

    replica: int
    start_s: float
    end_s: float

    @classmethod
    def parse(cls, text: str) -> "Kill":
        """From `2@30-60`; no end: it stays dead. ValueError says what was expected."""
        expected = f"expected REPLICA@FROM-TO such as 2@30-60, got {text!r}"
        found = _KILL.fullmatch(text)
        if found is None:
            raise ValueError(expected)
        return cls(int(found[1]), *span(found[2], found[3], expected))


def pairs(text: str, names: Sequence[str], expected: str) -> dict[str, float]:
    """`a=1,b=2` with these names only, each value above 0. ValueError says what was `expected`."""
    values = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in names:
            raise ValueError(expected)
        values[name] = _positive(value, expected)
    return values


def span(start: str, end: str, expected: str) -> tuple[float, float]:
    """Two times in seconds, the second later and `FOREVER` if it is empty. ValueError says what was `expected`."""
    try:
        span = float(start), float(end) if end else FOREVER
    except ValueError:
        raise ValueError(expected) from None
    if span[1] <= span[0]:
        raise ValueError(f"{expected}: it ends before it begins")
    return span


def _positive(text: str, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(expected) from None
    if not 0 < value < FOREVER:
        raise ValueError(f"{expected}: must be above 0")
    return value


@dataclass(frozen=True, slots=True)
class Setup:
    """A fleet and the gateways in front of it. ValueError for what cannot be.

    `speeds`, `kv_tokens`: of each replica, as shares of nominal and in tokens; a shorter list repeats, an empty one is
    nominal. `delay_s`: how late one gateway hears of what another sent where; `None`: never.
    `telemetry`: gateways read GPU clocks. `learned`: they learn from their own streams how slow each replica is.
    `noise`: sigma of the lognormal noise on each time from which they learn.
    `replies`: a reply's blocks enter the index at its end, not with the next turn.
    """

    replicas: int = 4
    params: EngineParams = field(default_factory=EngineParams)
    speeds: tuple[float, ...] = ()
    kv_tokens: tuple[int, ...] = ()
    gateways: int = 1
    delay_s: float | None = 0.25
    throttles: tuple[Throttle, ...] = ()
    kills: tuple[Kill, ...] = ()
    telemetry: bool = False
    learned: bool = False
    noise: float = 0.0
    replies: bool = True

    def __post_init__(self) -> None:
        if self.replicas < 1 or self.gateways < 1:
            raise ValueError("there must be at least 1 replica and 1 gateway")
        if not all(0 < speed < FOREVER for speed in self.speeds):
            raise ValueError(f"speeds must be above 0, got {', '.join(map(str, self.speeds))}")
        if any(tokens < self.params.block_tokens for tokens in self.kv_tokens):
            raise ValueError(f"a KV cache holds at least one block of {self.params.block_tokens} tokens")
        if self.delay_s is not None and not 0 <= self.delay_s < FOREVER:
            raise ValueError(f"a delay must be at least 0 s, got {self.delay_s}")
        if not 0 <= self.noise < FOREVER:
            raise ValueError(f"noise must be at least 0, got {self.noise}")
        named = [*(one.replica for one in self.throttles), *(one.replica for one in self.kills)]
        beyond = [number for number in named if number >= self.replicas]
        if beyond:
            raise ValueError(f"there is no replica {beyond[0]}: the first of {self.replicas} is 0")

    def speed(self, replica: int) -> float:
        return self.speeds[replica % len(self.speeds)] if self.speeds else 1.0

    def kv(self, replica: int) -> int:
        return self.kv_tokens[replica % len(self.kv_tokens)] if self.kv_tokens else self.params.kv_tokens
