"""`gateway simulate`: figures for each policy, and a clear word about what cannot be simulated."""

import json
import sys
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.lab.entrants import ENTRANTS

FAST = ["simulate", "characters", "--rate", "20", "--duration", "3"]
MOONCAKE = '{"timestamp": %d, "input_length": 1000, "output_length": 5, "hash_ids": [1, %d]}'


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def rows(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, object]]:
    """The rows of a run, as JSON."""
    assert main([*args, "--format", "json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["rows"]
    return found


def test_a_table_with_a_line_for_each_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout only the table; on stderr, no terminal here, a line for each run that is done."""
    assert main([*FAST, "--policy", "prefix,round_robin"]) == 0
    out, err = capsys.readouterr()
    head, *lines, _empty, mean = out.splitlines()
    assert mean.startswith("p99 TTFT of prefix, geometric mean: ")
    assert mean.endswith(" of round_robin's")
    assert head.split()[:5] == ["HARDWARE", "REPLICAS", "RATE/s", "LOAD", "POLICY"]
    assert [line.split()[:5] for line in lines] == [
        ["8b-h100", "4", "20.0", "-", "prefix"],
        ["8b-h100", "4", "20.0", "-", "round_robin"],
    ]
    assert [line.rsplit(":", 1)[0] for line in err.splitlines()] == [
        "4 x 8b-h100, 20.0 requests/s, prefix",
        "4 x 8b-h100, 20.0 requests/s, round_robin",
    ]


def test_json_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = rows(capsys, *FAST)
    assert row["policy"] == "prefix"
    assert row["requests"] == pytest.approx(0.8 * 60, rel=0.5)
    assert 0 < row["ttft_p50_s"] <= row["ttft_p90_s"] <= row["ttft_p99_s"]  # type: ignore[operator]
    assert {"itl_p99_s", "goodput_ratio", "hit_ratio", "busiest_work_ratio", "preemptions", "gpus"} <= row.keys()


def test_the_same_seed_gives_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(capsys, *FAST) == rows(capsys, *FAST) != rows(capsys, *FAST, "--seed", "2")


def test_names_for_many_policies(capsys: pytest.CaptureFixture[str]) -> None:
    fast = ["simulate", "rag", "--rate", "10", "--duration", "1"]
    assert [row["policy"] for row in rows(capsys, *fast, "--policy", "all")] == list(ENTRANTS)
    assert [row["policy"] for row in rows(capsys, *fast, "--policy", "peers")][:2] == ["prefix", "sglang"]
    beside = [row["policy"] for row in rows(capsys, *fast, "--policy", "random,peers,prefix")]
    assert (beside[:2], beside.count("prefix")) == (["random", "prefix"], 1)


def test_a_sweep_of_sizes_says_how_many_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """8B on single GPUs against 70B on pairs, at one rate."""
    args = ["--replicas", "1,2", "--hardware", "8b-h100,70b-fp8-2h100", "--slo", "ttft=0.3"]
    assert main([*FAST, *args]) == 0
    *_table, title, small, large = capsys.readouterr().out.splitlines()
    assert title == "p99 TTFT within 300 ms at 20 requests/s:"
    assert small.startswith("8b-h100, prefix: ")
    assert large.startswith("70b-fp8-2h100, prefix: ")


@pytest.mark.slow
def test_a_load_is_a_share_of_the_capacity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Found first: a recorded trace at half of what two replicas can take."""
    line = '{"timestamp": %d, "input_length": 20000, "output_length": 1, "hash_ids": [%d]}'
    file = write(tmp_path / "trace.jsonl", *(line % (n, n) for n in range(400)))
    half, whole = rows(capsys, "simulate", file, "--load", "0.5,1", "--replicas", "1", "--duration", "20")
    assert (half["load"], whole["load"]) == (0.5, 1.0)
    assert 2 * half["rate_per_s"] == whole["rate_per_s"]  # type: ignore[operator]


def test_a_recorded_trace_runs_as_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it is counted; at another rate it is stretched."""
    file = write(tmp_path / "trace.jsonl", *(MOONCAKE % (100 * n, n) for n in range(11)))
    (row,) = rows(capsys, "simulate", file)
    assert (row["requests"], row["rate_per_s"]) == (11, 11.0)
    (row,) = rows(capsys, "simulate", file, "--rate", "5.5", "--duration", "1")
    assert row["requests"] == 5


def test_an_access_log_says_what_it_cannot_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = '{"time": 7.5, "prompt_tokens": 600, "completion_tokens": 5, "duration_s": 0.5}'
    assert main(["simulate", write(tmp_path / "access.jsonl", line, line)]) == 0
    note, _head, row = capsys.readouterr().out.splitlines()
    assert note.startswith("note: an access log tells sizes and times, not prompts")
    assert "0.000" in row


def test_what_happens_to_the_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    """Each option makes a difference, and a death breaks streams."""
    before = rows(capsys, *FAST)
    for options in (
        ["--throttle", "0@0-:clock=0.2,memory=0.2", "--telemetry"],
        ["--speeds", "1,0.3"],
        ["--kv", "8000"],
        ["--gateways", "3", "--delay", "never"],
        ["--gateways", "3", "--delay", "0.5"],
    ):
        assert rows(capsys, *FAST, *options) != before
    (row,) = rows(capsys, *FAST, "--kill", "0@1-2", "--kill", "1@1.5-")
    assert row["failed"] > 0  # type: ignore[operator]


def test_an_index_without_replies(capsys: pytest.CaptureFixture[str]) -> None:
    """The next turn does not find the reply of the last one where it is."""
    chat = ["simulate", "chat", "--rate", "40", "--duration", "20"]
    assert rows(capsys, *chat, "--no-replies") != rows(capsys, *chat)


def test_a_window(capsys: pytest.CaptureFixture[str]) -> None:
    (all_of_it,) = rows(capsys, *FAST, "--window", "0-")
    (part,) = rows(capsys, *FAST, "--window", "1-2")
    assert 0 < part["requests"] < all_of_it["requests"]  # type: ignore[operator]


@pytest.mark.slow
def test_a_plot(tmp_path: Path) -> None:
    assert main([*FAST, "--plot", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_steering_over_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three lines, whatever the fleet was told in the table."""
    file = tmp_path / "steering.png"
    assert main([*FAST, "--throttle", "1@1-2:clock=0.4", "--noise", "0.1", "--steering", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    assert "over time: learned" in capsys.readouterr().err


def test_a_plot_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("no/such/folder.png", "plot.nosuchformat"):
        assert main([*FAST, "--plot", str(tmp_path / name)]) == 2
        assert "cannot draw: " in capsys.readouterr().err


def test_a_plot_without_matplotlib(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional: said before the first run, and how to get it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*FAST, "--plot", "plot.png"]) == 2
    assert capsys.readouterr().err == "--plot and --steering need matplotlib: pip install 'vllm-gateway[lab]'\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nope"], "unknown trace 'nope': no such file, and the generators are characters, hot_character, rag"),
        (["chat", "--policy", "prefix,best"], "unknown policy 'best'; there are prefix, system_prompt, session"),
        (["chat", "--hardware", "b200"], "unknown engine 'b200'; known: 8b-h100, 70b-fp8-2h100"),
        (["chat", "--replicas", "0"], "at least 1 replica"),
        (["chat", "--replicas", "4,x"], "--replicas: expected numbers with commas between them, got '4,x'"),
        (["chat", "--load", "0"], "--load and --rate must be above 0"),
        (["chat", "--rate", "nan"], "--load and --rate must be above 0"),
        (["chat", "--duration", "-1"], "--duration must be above 0"),
        (["chat", "--slo", "ttft"], "--slo: expected ttft=SECONDS,tpot=SECONDS, got 'ttft'"),
        (["chat", "--window", "5-4"], "--window: expected FROM-TO in seconds, got '5-4'"),
        (["chat", "--throttle", "0@1-2"], "expected REPLICA@FROM-TO:clock=SHARE,memory=SHARE such as"),
        (["chat", "--kill", "9@1-2"], "there is no replica 9: the first of 4 is 0"),
        (["chat", "--delay", "soon"], "--delay: expected numbers"),
        (["chat", "--speeds", "0"], "speeds must be above 0"),
    ],
)
def test_what_cannot_be_is_said(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, before anything runs, and what was expected."""
    assert main(["simulate", *args]) == 2
    out, err = capsys.readouterr()
    assert (out, said in err) == ("", True)


def test_a_broken_line_of_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its number, and what was expected."""
    file = write(tmp_path / "trace.jsonl", MOONCAKE % (1, 2), '{"timestamp": 1}')
    assert main(["simulate", file]) == 2
    err = capsys.readouterr().err
    assert "trace.jsonl: line 2: expected a Mooncake request: timestamp (ms)" in err
    assert "missing required field" in err


def test_a_trace_that_is_too_short_for_a_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "trace.jsonl", MOONCAKE % (1, 2))
    assert main(["simulate", file, "--load", "0.5"]) == 2
    assert "too short to find the fleet's capacity: give a rate instead" in capsys.readouterr().err
