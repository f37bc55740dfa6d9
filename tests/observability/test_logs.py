"""What the process says on stderr: one JSON object a line, or text for people."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from gateway.observability.logs import configure


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """`configure` changes the process's root logger: put it back."""
    root, httpx = logging.getLogger(), logging.getLogger("httpx")
    handlers, level, httpx_level = root.handlers[:], root.level, httpx.level
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    httpx.setLevel(httpx_level)


def test_a_record_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, logger and message, whatever the message holds."""
    configure("json", "info")
    logging.getLogger("gateway.x").warning('%s "is"\nout: é', "r0")
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told.pop("time") > 1_700_000_000
    assert told == {"level": "warning", "logger": "gateway.x", "message": 'r0 "is"\nout: é'}


def test_an_exception_is_in_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback over several lines would be several broken records."""
    configure("json", "info")
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("gateway.x").exception("it broke")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "it broke"
    assert json.loads(line)["exception"].endswith("ValueError: odd")


def test_the_level_is_a_floor(capsys: pytest.CaptureFixture[str]) -> None:
    """Below it nothing is written; the probes' own library keeps quiet at `info`."""
    configure("json", "info")
    logging.getLogger("gateway.x").debug("fine")
    logging.getLogger("httpx").info("HTTP Request: GET …")
    assert capsys.readouterr().err == ""
    configure("json", "debug")
    logging.getLogger("gateway.x").debug("fine")
    assert json.loads(capsys.readouterr().err)["level"] == "debug"


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Also when configured again: the handler before is gone, so nothing is written twice."""
    configure("json", "info")
    configure("text", "info")
    logging.getLogger("gateway.x").info("hello")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO gateway.x: hello")


def test_stdout_is_left_to_the_request_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Two streams, two readers."""
    configure("json", "info")
    logging.getLogger("gateway.x").info("hello")
    assert capsys.readouterr().out == ""
    assert [handler.stream for handler in logging.getLogger().handlers] == [sys.stderr]  # type: ignore[attr-defined]
