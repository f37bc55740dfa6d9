"""How much traffic a fleet can take at all: what a load of 1 means."""

from collections.abc import Callable, Sequence
from statistics import median

from gateway.lab.peers import ENTRANTS
from gateway.lab.setup import Setup
from gateway.lab.simulate import simulate
from gateway.lab.sources import Source
from gateway.lab.traces import TraceItem

TRIAL_S = 90.0
"""How long each trial offers its rate."""
PATIENCE_S = 1.0
"""A rate is too high when, over the last third of a trial, the median request waits longer for its first token than
this and thrice what its prompt takes alone. Below capacity it waits some steps; above, the queue only grows, so that
another bound would give nearly the same rate."""
PRECISION = 0.03
LARGEST = 4
"""Fleets of more replicas are taken as so many times this one."""
FASTEST = 4096.0
"""Requests a second and replica beyond which no capacity is looked for."""


def capacity(source: Source, setup: Setup, seed: int, progress: Callable[[], object] = lambda: None) -> float:
    """Requests a second at which a healthy, even fleet of this size under `prefix` is only just stable, within 3 %.

    `progress` is called before each trial. ValueError: the trace is too short to tell, or fits no replica.
    """
    replicas = min(setup.replicas, LARGEST)
    fleet = Setup(replicas=replicas, params=setup.params)

    def stable(rate_per_s: float) -> bool:
        progress()
        return _stable(source.trace(rate_per_s, TRIAL_S, seed), fleet)

    low, high = 0.0, float(replicas)
    while stable(high):
        low, high = high, 2 * high
        if high > FASTEST * replicas:
            raise ValueError(f"{source.name} is too short to find the fleet's capacity: give a rate instead of a load")
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low * setup.replicas / replicas


def _stable(trace: Sequence[TraceItem], fleet: Setup) -> bool:
    ended = simulate(trace, ENTRANTS["prefix"], fleet).ended
    if trace and all(one.failure for one in ended):
        raise ValueError("no request of the trace fits into a replica's KV cache")
    start = TRIAL_S * 2 / 3
    late = [one for one in ended if one.first_s is not None and one.item.arrival_s >= start]
    waits = [one.first_s - one.item.arrival_s for one in late if one.first_s is not None]
    alone = [one.item.prompt_tokens * fleet.params.token_s for one in late]
    return not late or median(waits) <= PATIENCE_S + 3 * median(alone)
