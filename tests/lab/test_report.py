"""What a comparison looks like."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.lab.figures import Figures
from gateway.lab.report import HEADS, Row, can_plot, cells, needed, plain, plot, relative

FIGURES = Figures(
    policy="prefix",
    requests=100,
    failed=1,
    ttft_p50_s=0.02,
    ttft_p90_s=0.05,
    ttft_p99_s=0.2,
    itl_p99_s=0.031,
    goodput_ratio=0.987,
    hit_ratio=0.61,
    busiest_work_ratio=1.04,
    busiest_time_ratio=1.01,
    preemptions=7,
)
ROW = Row("8b-h100", 1, 4, 60.0, 0.7, FIGURES)


def row(replicas: int, ttft_s: float | None, policy: str = "prefix", hardware: str = "8b-h100", gpus: int = 1) -> Row:
    return Row(hardware, gpus, replicas, 60.0, None, replace(FIGURES, policy=policy, ttft_p99_s=ttft_s))


def test_a_line_of_the_table() -> None:
    shown = dict(zip(HEADS, cells(ROW), strict=True))
    assert shown == {
        "HARDWARE": "8b-h100",
        "REPLICAS": "4",
        "RATE/s": "60.0",
        "LOAD": "0.70",
        "POLICY": "prefix",
        "REQUESTS": "100",
        "FAILED": "1",
        "TTFT p50 ms": "20",
        "p90": "50",
        "p99": "200",
        "ITL p99 ms": "31",
        "GOODPUT": "98.7 %",
        "HITS": "0.610",
        "BUSIEST": "1.04",
        "PREEMPTIONS": "7",
    }
    assert dict(zip(HEADS, cells(row(4, None)), strict=True))["p99"] == "-"


def test_json_is_flat() -> None:
    assert plain(ROW)["ttft_p99_s"] == 0.2
    assert plain(ROW)["hardware"] == "8b-h100"
    assert "figures" not in plain(ROW)


def test_how_many_replicas_are_needed() -> None:
    """The smallest size from which on all are good enough: 2 was luck, as 4 is not."""
    rows = [row(2, 0.2), row(4, 0.4), row(8, 0.3), row(16, 0.1)]
    pair = [row(16, None, hardware="70b-fp8-2h100", gpus=2), row(8, 0.1, hardware="70b-fp8-2h100", gpus=2)]
    assert needed([*rows, row(2, 0.9, "random"), *pair, row(16, 0.2, "random")], 0.3) == [
        "8b-h100, prefix: 8 replicas, 8 GPUs",
        "8b-h100, random: 16 replicas, 16 GPUs",
        "70b-fp8-2h100, prefix: none of 8, 16 replicas is enough",
    ]


def test_the_first_policy_as_a_share_of_the_others() -> None:
    """Half of it at one rate and an eighth at another: a quarter. What is not known is left out."""
    rows = [row(4, 0.1), row(4, 0.2, "random"), row(4, 0.1), row(4, 0.8, "random"), row(4, 0.1), row(4, None, "random")]
    assert relative(rows) == {"random": pytest.approx(0.25)}
    assert relative(rows[:1]) == relative([]) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "rows",
    [
        [replace(ROW, load=load) for load in (0.5, 0.7)],
        [row(2, 0.2), row(4, 0.1), row(2, 0.2, "random", "70b-fp8-2h100"), row(4, None, "random", "70b-fp8-2h100")],
        [replace(ROW, load=None, rate_per_s=rate) for rate in (10.0, 20.0)],
        [row(4, 0.2), row(4, None, "random")],
        [row(4, 0.2), row(4, 0.3, hardware="70b-fp8-2h100")],
    ],
    ids=["loads", "sizes", "rates", "policies", "hardware"],
)
def test_a_plot_is_a_png(tmp_path: Path, rows: list[Row]) -> None:
    """Whatever varies, and without a display; what is not known leaves a hole."""
    assert can_plot()
    plot(rows, "a title", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    """matplotlib is heavy and optional: the lab does not import it."""
    source = Path(sys.modules["gateway.lab.report"].__file__ or "").read_text("utf-8")
    assert "\nimport matplotlib" not in source
    assert "\nfrom matplotlib" not in source
