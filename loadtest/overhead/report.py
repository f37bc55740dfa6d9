"""Figures, targets, and the one Markdown table. Nothing here measures."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Series = dict[str, list[float]]  # readings of one system by figure, one per round, in the order of the rounds
BASE = "nginx"


def times(value: float, base: float) -> float:
    """How many times the base."""
    return value / base


def added(value: float, base: float) -> float:
    """How much over the base."""
    return value - base


def alone(value: float, base: float) -> float:
    """The value, whatever the base."""
    return value


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: how a round's value compares with nginx's in the same round, and the target for the median of that."""

    key: str
    title: str
    compare: Callable[[float, float], float]
    digits: int = 1
    target: float | None = None
    at_least: bool = False

    def meets(self, value: float) -> bool:
        """True when the target is met or there is none."""
        if self.target is None:
            return True
        return value >= self.target if self.at_least else value <= self.target


FIGURES = (
    Figure("small_us", "CPU per 2 KB request, µs", times, 1, 4.5),
    Figure("large_us", "CPU per 32 KB request, µs", times, 1, 5.0),
    Figure("chunk_us", "CPU per paced chunk, 64 streams x 50/s, µs", times, 1, 1.4),
    Figure("ttft_p50_ms", "TTFT p50, 50 requests/s beside 64 streams, ms", added, 2, 1.0),
    Figure("ttft_p99_ms", "TTFT p99, same load, ms", added, 2, 3.0),
    Figure("unpaced_wall", "unpaced chunks/s", times, 0, 0.6, at_least=True),
    # The load generator's core may be full first, which flatters a slow system: the target holds by CPU second, too.
    Figure("unpaced_cpu", "unpaced chunks per CPU second", times, 0, 0.6, at_least=True),
    Figure("unpaced_busy", "- its core's use meanwhile, %", alone, 0),
    Figure("idle_mb", "resident MB, 1,000 idle streams", alone, 1, 60.0),
    Figure("fresh_mb", "- resident MB before", alone, 1),
    Figure("rest_ms", "CPU at rest, ms per s", alone, 1),
)
_SIGNS: dict[Callable[[float, float], float], str] = {times: "x", added: "+", alone: ""}


def compared(figure: Figure, values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Round by round, so that a neighbour's noise that hits both cancels out."""
    return [figure.compare(v, b) for v, b in zip(values, base, strict=False)]


def spread(values: Sequence[float], digits: int, sign: str = "") -> str:
    """`median (lowest - highest)`; the sign is put where it reads well."""
    median, low, high = statistics.median(values), min(values), max(values)
    text = f"{median:{'+' if sign == '+' else ''},.{digits}f} ({low:,.{digits}f} - {high:,.{digits}f})"
    return f"{sign} {text}" if sign == "x" else text


def verdict(figure: Figure, marks: Sequence[float]) -> str:
    """yes or no by the median; `~` when rounds disagree, which means: measure longer."""
    met = figure.meets(statistics.median(marks))
    doubt = any(figure.meets(mark) != met for mark in marks)
    return ("yes" if met else "no") + (" ~" if doubt else "")


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{'≥' if figure.at_least else '≤'} {_SIGNS[figure.compare]} {figure.target:g}".replace("  ", " ")


def _row(figure: Figure, names: Sequence[str], results: dict[str, Series]) -> list[str]:
    base = results[BASE].get(figure.key, [])
    row = [figure.title, spread(base, figure.digits) if base else "-"]
    for name in names:
        values = results[name].get(figure.key, [])
        if not values or not base:
            row += ["-", "-", "-"]
            continue
        marks = compared(figure, values, base)
        against = "" if figure.compare is alone else spread(marks, 2, _SIGNS[figure.compare])
        row += [spread(values, figure.digits), against, "" if figure.target is None else verdict(figure, marks)]
    return [*row, _target(figure)]


def table(results: dict[str, Series]) -> str:
    """The Markdown table: nginx, then for each system its values, the comparison with nginx's, and the verdict."""
    names = [name for name in results if name != BASE]
    heads = ["figure: median (range)", BASE]
    for name in names:
        heads += [name, f"{name} against {BASE}", "met"]
    rows = [[*heads, "target"], ["---"] * (len(heads) + 1), *(_row(f, names, results) for f in FIGURES)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def missed(results: dict[str, Series], name: str) -> list[str]:
    """Titles of the figures whose median misses its target, or that were not measured."""
    titles = []
    for figure in FIGURES:
        marks = compared(figure, results[name].get(figure.key, []), results[BASE].get(figure.key, []))
        if figure.target is not None and (not marks or not figure.meets(statistics.median(marks))):
            titles.append(figure.title)
    return titles
