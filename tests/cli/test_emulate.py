"""`gateway emulate` as a process: what it prints, and how it ends."""

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "gateway", "emulate", "--port", "0"]


@contextmanager
def process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """It is killed if the test leaves it running."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def lines_until_ready(started: subprocess.Popen[str]) -> list[str]:
    """What is printed before `ready`."""
    assert started.stdout is not None
    lines: list[str] = []
    for line in started.stdout:
        if line == "ready\n":
            return lines
        lines.append(line.strip())
    raise AssertionError(f"ended before it was ready: {lines}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_serves_and_ends_on_a_signal(number: signal.Signals, code: int) -> None:
    """One URL a replica, then the control port, the exporter, `ready`; SIGTERM ends it with 0, SIGINT with 130."""
    with process([*COMMAND, "--replicas", "3", "--control-port", "0", "--gpu-port", "0"]) as started:
        *urls, control, gpus = lines_until_ready(started)
        assert len(urls) == 3
        with urllib.request.urlopen(gpus.removeprefix("gpus ") + "/metrics") as answer:
            assert answer.read().count(b"DCGM_FI_DEV_SM_CLOCK{") == 3
        assert control.startswith("control http://127.0.0.1:")
        for url in urls:
            with urllib.request.urlopen(url + "/health") as answer:
                assert answer.status == 200
        started.send_signal(number)
        assert started.wait(5) == code


def test_the_size_of_its_kv_cache() -> None:
    """In place of the engine's, and told as vLLM tells it."""
    with process([*COMMAND, "--replicas", "1", "--kv-tokens", "40000"]) as started:
        (url,) = lines_until_ready(started)
        with urllib.request.urlopen(url + "/metrics") as answer:
            page = answer.read().decode()
    (blocks,) = re.findall(r'num_gpu_blocks="(\d+)"', page)
    assert int(blocks) * 16 == 40_000


def test_it_ends_with_its_parent() -> None:
    """A killed parent takes the fleet along: the pipe that both hold is closed."""
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({[*COMMAND, '--replicas', '1', '--exit-with-parent']!r})\n"
        "child.wait()\n"
    )
    with process([sys.executable, "-c", parent]) as started:
        assert lines_until_ready(started)
        started.kill()
        assert started.stdout is not None
        assert started.stdout.read() == ""


def test_a_parent_that_ended_earlier_is_noticed() -> None:
    """Given the PID of the parent, one that is no longer the parent ends it at once."""
    ended = subprocess.run([*COMMAND, "--exit-with-parent", "1"], capture_output=True, check=False, timeout=20)
    assert ended.returncode == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ["--engine", "abacus"],
        ["--replicas", "0"],
        ["--speed", "0"],
        ["--max-model-len", "999999999"],
        ["--kv-tokens", "1000"],  # less than the longest context
        ["--kv-tokens", "0"],
    ],
)
def test_wrong_arguments_are_usage_errors(wrong: list[str]) -> None:
    """Exit code 2 and a sentence."""
    ended = subprocess.run([*COMMAND, *wrong], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr
