"""What a comparison of policies looks like: a table, JSON, and a plot."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING

from gateway.lab.figures import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADS = (
    "HARDWARE",
    "REPLICAS",
    "RATE/s",
    "LOAD",
    "POLICY",
    "REQUESTS",
    "FAILED",
    "TTFT p50 ms",
    "p90",
    "p99",
    "ITL p99 ms",
    "GOODPUT",
    "HITS",
    "BUSIEST",
    "PREEMPTIONS",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One policy on one fleet at one rate. `load`: of that fleet's capacity; `None`: the rate was given instead."""

    hardware: str
    gpus: int
    replicas: int
    rate_per_s: float
    load: float | None
    figures: Figures


def cells(row: Row) -> tuple[str, ...]:
    """One line of the table, under `HEADS`; what is not known is `-`."""
    figures = row.figures
    return (
        row.hardware,
        str(row.replicas),
        f"{row.rate_per_s:.1f}",
        number(row.load, "{:.2f}"),
        figures.policy,
        str(figures.requests),
        str(figures.failed),
        number(figures.ttft_p50_s, "{:.0f}", 1000),
        number(figures.ttft_p90_s, "{:.0f}", 1000),
        number(figures.ttft_p99_s, "{:.0f}", 1000),
        number(figures.itl_p99_s, "{:.0f}", 1000),
        number(figures.goodput_ratio, "{:.1f} %", 100),
        number(figures.hit_ratio, "{:.3f}"),
        number(figures.busiest_work_ratio, "{:.2f}"),
        str(figures.preemptions),
    )


def number(value: float | None, form: str, factor: float = 1) -> str:
    """The value times the factor; what is not known is `-`."""
    return "-" if value is None else form.format(value * factor)


def plain(row: Row) -> dict[str, object]:
    """The row for JSON, flat."""
    fields = asdict(row)
    return {**{name: value for name, value in fields.items() if name != "figures"}, **fields["figures"]}


def needed(rows: Sequence[Row], ttft_s: float) -> list[str]:
    """The smallest fleet of each hardware and policy whose p99 TTFT is within `ttft_s`, and so are all larger ones."""
    answers = []
    for hardware, policy in dict.fromkeys((row.hardware, row.figures.policy) for row in rows):
        fleets = sorted(
            (row for row in rows if (row.hardware, row.figures.policy) == (hardware, policy)),
            key=lambda row: row.replicas,
        )
        enough: Row | None = None
        for row in reversed(fleets):
            if row.figures.ttft_p99_s is None or row.figures.ttft_p99_s > ttft_s:
                break
            enough = row
        size = f"none of {', '.join(str(row.replicas) for row in fleets)} replicas is enough"
        if enough is not None:
            size = f"{enough.replicas} replicas, {enough.replicas * enough.gpus} GPUs"
        answers.append(f"{hardware}, {policy}: {size}")
    return answers


def relative(rows: Sequence[Row]) -> dict[str, float]:
    """p99 TTFT of the first policy as a share of each other one's: the geometric mean over fleets and rates.

    Below 1 the first is better. A pair of which one is not known is left out.
    """
    shares: dict[str, list[float]] = {}
    first: Row | None = None
    for row in rows:
        if first is None or row.figures.policy == first.figures.policy:
            first = row
        elif first.figures.ttft_p99_s and row.figures.ttft_p99_s:
            shares.setdefault(row.figures.policy, []).append(first.figures.ttft_p99_s / row.figures.ttft_p99_s)
    return {policy: geometric_mean(found) for policy, found in shares.items()}


def can_plot() -> bool:
    """Whether matplotlib is installed: the optional extra `lab`."""
    return find_spec("matplotlib") is not None


def plot(rows: Sequence[Row], title: str, file: Path) -> None:
    """p99 TTFT and goodput against what varies most: fleet size, load, rate, or else policy by policy. OSError.

    Needs matplotlib, see `can_plot`.
    """
    from matplotlib.figure import Figure  # heavy, and optional

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    name, values = _axis(rows)
    if len(set(values)) > 1:
        _lines(left, right, rows, values)
        left.set_xlabel(name)
        right.set_xlabel(name)
    else:
        _bars(left, right, rows)
    left.set_ylabel("p99 TTFT, ms")
    left.set_yscale("log")
    right.set_ylabel("goodput, % of requests")
    right.set_ylim(0, 103)
    figure.suptitle(title, fontsize="medium")
    figure.savefig(file, dpi=80)


def _axis(rows: Sequence[Row]) -> tuple[str, list[float]]:
    """What differs between the rows, and its value in each."""
    if len({row.replicas for row in rows}) > 1:
        return "replicas", [row.replicas for row in rows]
    loads = [row.load for row in rows if row.load is not None]
    if len(loads) == len(rows):
        return "load, share of the fleet's capacity", loads
    return "requests a second", [row.rate_per_s for row in rows]


def _lines(left: "Axes", right: "Axes", rows: Sequence[Row], values: Sequence[float]) -> None:
    several = len({row.hardware for row in rows}) > 1
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for row, value in zip(rows, values, strict=True):
        label = f"{row.figures.policy}, {row.hardware}" if several else row.figures.policy
        point = (value, *_heights(row))
        lines.setdefault(label, []).append(point)
    for label, points in lines.items():
        at, waits, good = zip(*sorted(points), strict=True)
        left.plot(at, waits, marker="o", markersize=3, label=label)
        right.plot(at, good, marker="o", markersize=3, label=label)
    left.legend(fontsize="small")


def _bars(left: "Axes", right: "Axes", rows: Sequence[Row]) -> None:
    several = len({row.hardware for row in rows}) > 1
    labels = [f"{row.figures.policy}\n{row.hardware}" if several else row.figures.policy for row in rows]
    heights = [_heights(row) for row in rows]
    left.bar(labels, [wait for wait, _good in heights])
    right.bar(labels, [good for _wait, good in heights])
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=40)


def _heights(row: Row) -> tuple[float, float]:
    nothing = float("nan")
    wait, good = row.figures.ttft_p99_s, row.figures.goodput_ratio
    return (nothing if wait is None else wait * 1000, nothing if good is None else good * 100)
