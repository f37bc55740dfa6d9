"""What steering is worth: p99 TTFT over time, one GPU slow, and what tells: nothing, telemetry, or learning."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.lab.entrants import Entrant
from gateway.lab.figures import quantile
from gateway.lab.setup import FOREVER, Setup
from gateway.lab.simulate import Ended, simulate
from gateway.lab.sources import Source

SEEDS = 5
"""Traces that are put together: the hundredth part of a few seconds of one is a matter of luck."""

BIN_S = 2.0

Line = Sequence[tuple[float, float]]
"""Points of time and p99 TTFT, both in seconds."""


def told(setup: Setup) -> Mapping[str, Setup]:
    """The same fleet, by what tells the gateways that a replica is slow."""
    nothing = replace(setup, telemetry=False, learned=False)
    return {
        "told nothing": nothing,
        "GPU telemetry": replace(nothing, telemetry=True),
        "learned": replace(nothing, learned=True),
    }


def lines(
    source: Source,
    rate_per_s: float,
    duration_s: float,
    seed: int,
    entrant: Entrant,
    setup: Setup,
    progress: Callable[[str], object] = lambda _name: None,
) -> dict[str, Line]:
    """One line for each of `told`, over `SEEDS` traces from `seed` on. `progress`: the line that is begun."""
    found = {}
    for name, fleet in told(setup).items():
        progress(name)
        ended: list[Ended] = []
        for number in range(seed, seed + SEEDS):
            ended += simulate(source.trace(rate_per_s, duration_s, number), entrant, fleet).ended
        found[name] = line(ended)
    return found


def line(ended: Sequence[Ended]) -> Line:
    """p99 TTFT of those that arrived in each `BIN_S`, at its middle. One without a first token is left out."""
    bins: dict[int, list[float]] = {}
    for one in ended:
        if one.first_s is not None:
            arrival = one.item.arrival_s
            bins.setdefault(int(arrival / BIN_S), []).append(one.first_s - arrival)
    points = [((number + 0.5) * BIN_S, quantile(sorted(waits), 0.99)) for number, waits in sorted(bins.items())]
    return [(at, p99) for at, p99 in points if p99 is not None]


def draw(found: Mapping[str, Line], setup: Setup, title: str, file: Path) -> None:
    """The lines, the throttled time shaded. OSError. Needs matplotlib, see `report.can_plot`."""
    from matplotlib.figure import Figure  # heavy, and optional

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in found.items():
        axes.plot([at for at, _ in points], [p99 * 1000 for _, p99 in points], label=name)
    last = max((at for points in found.values() for at, _ in points), default=0.0)
    for throttle in setup.throttles:
        end = last if throttle.end_s == FOREVER else throttle.end_s
        axes.axvspan(throttle.start_s, end, color="0.9", label=f"replica {throttle.replica} throttled")
    axes.set_xlabel("seconds")
    axes.set_ylabel("p99 TTFT, ms")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    axes.set_title(title, fontsize="medium")
    figure.savefig(file, dpi=80)
