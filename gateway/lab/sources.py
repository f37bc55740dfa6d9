"""A trace by its name, at any rate: made by a generator, or recorded in a file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

from gateway.lab.recorded import recorded
from gateway.lab.traces import GENERATORS, TraceItem

LOG_NOTE = (
    "an access log tells sizes and times, not prompts: nothing here shares a prefix, no cache is ever hit, and policies"
    " differ by load alone"
)


@dataclass(frozen=True, slots=True)
class Source:
    """`trace(rate_per_s, duration_s, seed)`: requests in order of arrival, all before `duration_s`.

    `rate_per_s`: as recorded; `None`: it is made as it is asked for. `note`: what it cannot show.
    """

    name: str
    trace: Callable[[float, float, int], list[TraceItem]]
    rate_per_s: float | None = None
    note: str = ""


POPULATED = ("characters", "hot_character")
"""Traces of as many system prompts as one likes."""


def source(name: str, population: int | None = None) -> Source:
    """The generator of this name, or the file. `population`: its system prompts, `None`: as many as it has.

    ValueError: neither, or the number of a line that is broken, or a population that it cannot have.
    """
    if population is not None and (name not in POPULATED or population < 2):
        raise ValueError(f"a population: expected at least 2, of {' or '.join(POPULATED)}")
    if name in GENERATORS:
        make = GENERATORS[name] if population is None else partial(GENERATORS[name], population=population)
        return Source(name, lambda rate, duration, seed: make(Random(seed), rate_per_s=rate, duration_s=duration))
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"unknown trace {name!r}: no such file, and the generators are {', '.join(GENERATORS)}")
    try:
        with path.open("rb") as lines:
            items, prompts = recorded(lines)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None
    if not items:
        raise ValueError(f"{name}: no request in it has both a prompt and a reply")
    return _replayed(path.name, items, "" if prompts else LOG_NOTE)


def _replayed(name: str, items: list[TraceItem], note: str) -> Source:
    """Another rate than the recorded one stretches the time between arrivals."""
    start = items[0].arrival_s
    length = items[-1].arrival_s - start
    recorded_rate = len(items) / length if length > 0 else float(len(items))

    def trace(rate_per_s: float, duration_s: float, _seed: int) -> list[TraceItem]:
        stretch = recorded_rate / rate_per_s
        moved = (replace(item, arrival_s=(item.arrival_s - start) * stretch) for item in items)
        return [item for item in moved if item.arrival_s < duration_s]

    return Source(name, trace, recorded_rate, note)
