"""Figures of the runs, the Markdown table and the plot. Nothing here measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.lab.figures import Slo, quantile
from loadtest.compare.client import Outcome
from loadtest.compare.scenarios import Ran

SLO = Slo()
HEADS = (
    "scenario", "router", "requests", "TTFT p50 ms", "p99 ms", "hits", "goodput", "errors", "broken", "preempted",
    "CPU/request µs", "CPU/chunk µs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the requests that were due after the warm-up; TTFT in engine seconds; `None`: nothing to measure.

    `errors`: failed before their first output; `broken`: after it. CPU is the router's, in microseconds over all
    requests and over all chunks of the run: the same seconds told twice, not two parts of them.
    """

    scenario: str
    peer: str
    requests: int
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    hit_ratio: float | None
    goodput_ratio: float | None
    errors: int
    broken: int
    preemptions: int
    request_us: float | None
    chunk_us: float | None


def figures(ran: Ran) -> Figures:
    counted = [one for one in ran.outcomes if one.planned.at_s >= ran.counted_from_s * ran.speed]
    waits = sorted((one.first_s - one.sent_s) * ran.speed for one in counted if one.first_s is not None)
    told = [one for one in counted if one.prompt_tokens]
    prompts = sum(one.prompt_tokens or 0 for one in told)
    chunks = sum(one.chunks for one in ran.outcomes)
    return Figures(
        ran.scenario,
        ran.peer,
        len(counted),
        quantile(waits, 0.5),
        quantile(waits, 0.99),
        sum(one.cached_tokens or 0 for one in told) / prompts if prompts else None,
        sum(_good(one, ran.speed) for one in counted) / len(counted) if counted else None,
        sum(one.refused for one in counted),
        sum(one.broken for one in counted),
        ran.preemptions,
        1e6 * ran.router_cpu_s / len(ran.outcomes) if ran.outcomes else None,
        1e6 * ran.router_cpu_s / chunks if chunks else None,
    )


def _good(one: Outcome, speed: float) -> bool:
    if one.first_s is None or one.broken:
        return False
    if (one.first_s - one.sent_s) * speed > SLO.ttft_s:
        return False
    if one.end_s is None:
        return True  # it was still running when the load was over
    return (one.end_s - one.first_s) * speed / max(1, one.planned.output_tokens - 1) <= SLO.tpot_s


def table(rows: Sequence[Figures]) -> str:
    """Markdown, in the order of the rows; what is not known is a dash."""
    lines = ["| " + " | ".join(HEADS) + " |", "|---|---|" + "---:|" * (len(HEADS) - 2)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def _cells(row: Figures) -> tuple[str, ...]:
    return (
        row.scenario,
        row.peer,
        str(row.requests),
        _number(row.ttft_p50_s, "{:,.0f}", 1000),
        _number(row.ttft_p99_s, "{:,.0f}", 1000),
        _number(row.hit_ratio, "{:.2f}"),
        _number(row.goodput_ratio, "{:.1f} %", 100),
        str(row.errors),
        str(row.broken),
        str(row.preemptions),
        _number(row.request_us, "{:,.0f}"),
        _number(row.chunk_us, "{:.1f}"),
    )


def _number(value: float | None, form: str, factor: float = 1) -> str:
    return "–" if value is None else form.format(value * factor)


def shares(runs: Sequence[Ran]) -> str:
    """How much of the machine the measuring itself took."""
    lines = []
    for name, part in (("load generator", "load_cpu_s"), ("fleet", "fleet_cpu_s"), ("router", "router_cpu_s")):
        found = [getattr(ran, part) / ran.wall_s for ran in runs]
        lines.append(f"{name} {min(found):.0%} to {max(found):.0%}")
    late = sorted(one.sent_s - one.planned.at_s / ran.speed for ran in runs for one in ran.outcomes)
    p99, most = quantile(late, 0.99) or 0.0, quantile(late, 1.0) or 0.0
    return (
        f"CPU of one core: {', '.join(lines)}. Requests left {p99 * 1000:.0f} ms late at p99,"
        f" the latest one {most * 1000:.0f} ms."
    )


def best(rows: Sequence[Figures]) -> list[str]:
    """For each scenario how the first row's router compares in p99 TTFT with the best other one."""
    lines = []
    first = rows[0].peer if rows else ""
    for scenario in dict.fromkeys(row.scenario for row in rows):
        own = next((row for row in rows if row.scenario == scenario and row.peer == first), None)
        others = [row for row in rows if row.scenario == scenario and row.peer != first and row.ttft_p99_s]
        if own is not None and own.ttft_p99_s and others:
            peer = min(others, key=lambda row: row.ttft_p99_s or 0.0)
            assert peer.ttft_p99_s
            lines.append(
                f"{scenario}: {own.ttft_p99_s / peer.ttft_p99_s:.2f} of the best peer's p99 TTFT ({peer.peer})"
            )
    return lines


def plot(rows: Sequence[Figures], file: Path) -> None:
    """p99 TTFT and goodput of each router, scenario by scenario. Needs matplotlib."""
    from matplotlib.figure import Figure  # heavy, and optional

    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    peers = list(dict.fromkeys(row.peer for row in rows))
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, len(scenarios), sharey="row", squeeze=False)
    colours = ["tab:blue" if peer == peers[0] else "tab:gray" for peer in peers]
    found = {(row.scenario, row.peer): row for row in rows}
    nothing = float("nan")
    for column, scenario in enumerate(scenarios):
        own = [found.get((scenario, peer)) for peer in peers]
        waits = [row.ttft_p99_s * 1000 if row and row.ttft_p99_s else nothing for row in own]
        good = [row.goodput_ratio * 100 if row and row.goodput_ratio is not None else nothing for row in own]
        for axis, heights in ((axes[0][column], waits), (axes[1][column], good)):
            axis.bar(range(len(peers)), heights, color=colours)
            axis.set_xticks(range(len(peers)), peers if axis is axes[1][column] else [""] * len(peers), rotation=90)
            axis.grid(axis="y", alpha=0.3)
        axes[0][column].set_title(scenario)
    axes[0][0].set_yscale("log")
    axes[0][0].set_ylabel("p99 TTFT, engine ms")
    axes[1][0].set_ylabel("goodput, % of requests")
    figure.savefig(file, dpi=80)
