"""`gateway simulate characters --day S`: a table by the hour, JSON, and what it cannot be asked for."""

import json

import pytest

from gateway.cli import main

DAY = ["simulate", "characters", "--day", "120", "--rate", "20"]


def test_a_line_for_each_hour(capsys: pytest.CaptureFixture[str]) -> None:
    """And the verdict below them; each hour is told on stderr when it is over."""
    assert main(DAY) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split()[:3] == ["HOUR", "LOAD", "REQUESTS"]
    assert [line.split()[:2] for line in (lines[0], lines[20], lines[23])] == [
        ["0", "0.46"],
        ["20", "0.91"],
        ["23", "0.57"],
    ]
    assert lines[24] == ""
    assert lines[25].startswith("left in the books: 0; index: ")
    assert lines[26].endswith("; sound")
    assert err.splitlines()[0].startswith("hour 0: ")
    assert len(err.splitlines()) == 24


def test_json_has_every_hour(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DAY, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [hour["hour"] for hour in found["hours"]] == list(range(24))
    assert found["open_entries"] == 0


@pytest.mark.parametrize(
    "more", [["--day", "0"], ["--policy", "prefix,random"], ["--rate", "1,2"], ["--replicas", "1"], ["--plot", "x.png"]]
)
def test_what_a_day_cannot_show_is_refused(capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    assert main([*DAY, *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err
    assert main(["simulate", "rag", "--day", "120", "--rate", "20"]) == 2
