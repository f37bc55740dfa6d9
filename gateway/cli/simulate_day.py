"""`gateway simulate characters --day S`: hour by hour, and whether anything was left over."""

import sys

import msgspec

from gateway.cli.progress import Progress
from gateway.cli.table import table
from gateway.lab.day import PEAK, Day, Hour, day, events, load_at
from gateway.lab.entrants import Entrant
from gateway.lab.figures import Slo
from gateway.lab.report import number
from gateway.lab.setup import Setup

HEADS = (
    "HOUR",
    "LOAD",
    "REQUESTS",
    "FAILED",
    "TTFT p50 ms",
    "p99",
    "ITL p99 ms",
    "GOODPUT",
    "HITS",
    "PREEMPTIONS",
    "IN FLIGHT",
    "RSS MB",
)


def run(entrant: Entrant, setup: Setup, peak_per_s: float, day_s: float, *, seed: int, slo: Slo, json: bool) -> int:
    """0: sound; 1: the books hold something at the end, or an index outgrew its bound. ValueError: the fleet is too
    small for what happens in a day."""
    progress = Progress(sys.stderr)

    def told(hour: Hour) -> None:
        progress.finish(f"hour {hour.hour}: {hour.requests} requests, {number(hour.resident_mb, '{:.0f}')} MB resident")

    done = day(entrant, events(setup, day_s), peak_per_s, day_s, seed, slo, told)
    print(msgspec.json.encode(done).decode() if json else _text(done))
    return 0 if done.sound else 1


def _text(done: Day) -> str:
    return "\n".join(
        (
            table(HEADS, map(_cells, done.hours)),
            "",
            f"left in the books: {done.open_entries}; index: {done.index_blocks} blocks of at most {done.index_bound}",
            f"load: at the middle of the hour, {PEAK} is the peak; {'sound' if done.sound else 'NOT SOUND'}",
        )
    )


def _cells(hour: Hour) -> tuple[str, ...]:
    return (
        str(hour.hour),
        f"{load_at(hour.hour + 0.5):.2f}",
        str(hour.requests),
        str(hour.failed),
        number(hour.ttft_p50_s, "{:.0f}", 1000),
        number(hour.ttft_p99_s, "{:.0f}", 1000),
        number(hour.itl_p99_s, "{:.0f}", 1000),
        number(hour.goodput_ratio, "{:.1f} %", 100),
        number(hour.hit_ratio, "{:.3f}"),
        str(hour.preemptions),
        str(hour.in_flight),
        number(hour.resident_mb, "{:.0f}"),
    )
