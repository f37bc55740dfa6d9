"""Whether a figure has stayed flat, by its readings at quiet moments. Nothing here measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

ENOUGH = 6
"""Fewer readings tell nothing."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that must not grow: by more than `slack` and by more than `ratio` of what it was."""

    name: str
    unit: str
    slack: float
    ratio: float = 0.0


FIGURES = (
    Figure("resident", "MB", 3.0, 0.05),
    Figure("descriptors", "", 3.0),
    Figure("sockets", "", 3.0),
    Figure("threads", "", 1.0),
    Figure("tasks", "", 2.0),
    Figure("in_flight", "requests", 0.0),
    Figure("index_blocks", "blocks", 200.0, 0.10),
)
"""An index fills until it holds what its replicas can hold; what is above that is a leak."""


def growth(figure: Figure, readings: Sequence[float]) -> str | None:
    """A line that says how it grew, or that nobody can tell; `None` while it is flat.

    The first quarter is left out (caches and pools fill); of the rest the last third is compared with the first.
    """
    if len(readings) < ENOUGH:
        return f"{figure.name}: {len(readings)} readings are too few to tell"
    settled = readings[len(readings) // 4 :]
    part = max(1, len(settled) // 3)
    before, after = median(settled[:part]), median(settled[-part:])
    if after - before <= max(figure.slack, figure.ratio * before):
        return None
    unit = f" {figure.unit}" if figure.unit else ""
    return f"{figure.name} grew from {before:,.1f} to {after:,.1f}{unit} in {len(settled)} readings"


def verdict(readings: Sequence[dict[str, float]]) -> list[str]:
    """What has grown, or was not told often enough, a line each."""
    lines = [growth(figure, [one[figure.name] for one in readings if figure.name in one]) for figure in FIGURES]
    return [line for line in lines if line is not None]
