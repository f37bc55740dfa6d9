"""A day of traffic in virtual time: load rises and falls, a GPU throttles for an hour, a replica dies and comes back.

It is as long as one likes and nothing is kept of its requests, so that what does grow is seen.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from resource import getpagesize

from gateway.core.affinity import capacity_blocks
from gateway.lab.entrants import Entrant
from gateway.lab.figures import Slo, quantile
from gateway.lab.setup import Kill, Setup, Throttle
from gateway.lab.simulate import Ended, Simulation
from gateway.lab.traces import TraceItem, character_shape, poisson, sessions, zipf

HOURS = 24
PEAK = 0.95
"""Load of the fullest hour, as a share of capacity."""
COURSE = ((0.0, 0.5), (4.0, 0.2), (9.0, 0.6), (13.0, 0.75), (16.0, 0.7), (20.0, PEAK), (22.0, 0.8), (24.0, 0.5))
"""Hour of the day → load, a straight line between two of them."""
THROTTLED = (14.0, 15.0, 0.4)
"""From hour to hour, and to what share of its clock."""
DEAD = (18.0, 18.25)
"""From hour to hour."""

_STATM = Path("/proc/self/statm")


def load_at(hour: float) -> float:
    """Share of capacity that is asked for at this hour; before 0 and after 24 it is another day like this."""
    hour %= HOURS
    after = bisect_right([at for at, _load in COURSE], hour)
    (start, low), (end, high) = COURSE[after - 1], COURSE[after]
    return low + (high - low) * (hour - start) / (end - start)


def trace(rng: Random, peak_per_s: float, day_s: float) -> Iterator[TraceItem]:
    """Requests of `characters`, in order of arrival; `peak_per_s` are those of the fullest hour."""
    shape = character_shape(rng, zipf(100))
    most = poisson(rng, peak_per_s / shape.turns, -shape.lead_s, day_s)
    starts = (at for at in most if rng.random() * PEAK < load_at(at * HOURS / day_s))
    return sessions(rng, shape, starts, day_s)


def events(setup: Setup, day_s: float) -> Setup:
    """The same fleet with the day's throttle at replica 0 and its death at replica 1. ValueError: there are not two."""
    hour_s = day_s / HOURS
    start, end, clock = THROTTLED
    throttle = Throttle(0, start * hour_s, end * hour_s, clock=clock)
    kill = Kill(1, DEAD[0] * hour_s, DEAD[1] * hour_s)
    return replace(setup, throttles=(*setup.throttles, throttle), kills=(*setup.kills, kill))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """Of the requests that ended in this hour, from 0; durations in seconds, `None` where there was nothing to measure.

    `in_flight`: at its end, by the books. `resident_mb`: of this process at its end; `None`: the system does not tell.
    Else as in `Figures`.
    """

    hour: int
    requests: int
    failed: int
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    itl_p99_s: float | None
    goodput_ratio: float | None
    hit_ratio: float | None
    preemptions: int
    in_flight: int
    resident_mb: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """All hours, and what was left when the last request had ended.

    `open_entries`: what the books still hold, requests and tokens together. `index_blocks`: what the index holds of the
    replica that is nearest to its `index_bound`.
    """

    hours: list[Hour]
    open_entries: int
    index_blocks: int
    index_bound: int

    @property
    def sound(self) -> bool:
        """Whether everything was given back, and nothing outgrew its bound."""
        return not self.open_entries and self.index_blocks <= self.index_bound


class _Clerk:
    """Writes up one hour after the other."""

    def __init__(self, hour_s: float, slo: Slo, told: Callable[[Hour], object]) -> None:
        self._hour_s = hour_s
        self._slo = slo
        self._told = told
        self.hours: list[Hour] = []
        self.simulation: Simulation
        self._preempted = 0
        self._begin()

    def _begin(self) -> None:
        self._waits: list[float] = []
        self._requests = self._failed = self._good = self._prompts = self._cached = 0

    def ended(self, one: Ended) -> None:
        # Replies that outlast midnight belong to the last hour.
        while one.end_s >= (len(self.hours) + 1) * self._hour_s and len(self.hours) < HOURS - 1:
            self.close()
        self._requests += 1
        self._failed += bool(one.failure)
        self._good += self._slo.met(one)
        if one.first_s is not None:
            self._waits.append(one.first_s - one.item.arrival_s)
        if one.cached_tokens is not None:
            self._prompts += one.item.prompt_tokens
            self._cached += one.cached_tokens

    def close(self) -> None:
        """The hour is over."""
        waits = sorted(self._waits)
        preempted = self.simulation.preemptions
        hour = Hour(
            hour=len(self.hours),
            requests=self._requests,
            failed=self._failed,
            ttft_p50_s=quantile(waits, 0.5),
            ttft_p99_s=quantile(waits, 0.99),
            itl_p99_s=self.simulation.itl().quantile(0.99),
            goodput_ratio=self._good / self._requests if self._requests else None,
            hit_ratio=self._cached / self._prompts if self._prompts else None,
            preemptions=preempted - self._preempted,
            in_flight=sum(gateway.books.total_in_flight() for gateway in self.simulation.gateways),
            resident_mb=_resident_mb(),
        )
        self._preempted = preempted
        self.simulation.forget_gaps()
        self._begin()
        self.hours.append(hour)
        self._told(hour)


def day(
    entrant: Entrant,
    setup: Setup,
    peak_per_s: float,
    day_s: float,
    seed: int,
    slo: Slo,
    told: Callable[[Hour], object] = lambda _hour: None,
) -> Day:
    """Run it to the end of its last request. `told`: each hour when it is over."""
    clerk = _Clerk(day_s / HOURS, slo, told)
    requests = trace(Random(seed), peak_per_s, day_s)
    simulation = clerk.simulation = Simulation(requests, entrant, setup, clerk.ended, seed=seed)
    simulation.run()
    clerk.close()
    accounts = [load for gateway in simulation.gateways for _replica, load in gateway.books.loads()]
    shares = [
        (gateway.index.blocks(replica), capacity_blocks(setup.kv(number)))
        for gateway in simulation.gateways
        for number, replica in enumerate(gateway.replica_ids)
    ]
    blocks, bound = max(shares, key=lambda share: share[0] / share[1])
    return Day(
        hours=clerk.hours,
        open_entries=sum(load.in_flight + load.queued_tokens + load.held_tokens for load in accounts),
        index_blocks=blocks,
        index_bound=bound,
    )


def _resident_mb() -> float | None:
    try:
        return int(_STATM.read_text().split()[1]) * getpagesize() / 1e6
    except OSError:
        return None
