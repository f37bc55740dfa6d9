"""curl: the client of every README."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.emulator.expected import expected_text
from tests.clients.conftest import HELLO

pytestmark = pytest.mark.slow

CHAT = {"model": "emulated", "messages": [{"role": "user", "content": HELLO}], "max_tokens": 20}


@pytest.fixture
def curl(program: Callable[[str, str], str]) -> list[str]:
    return [program("curl", "`apt-get install curl`"), "--no-progress-meter", "--noproxy", "*", "--max-time", "60"]


def asked(curl: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*curl, *arguments], capture_output=True, text=True, timeout=90)


def test_a_stream_line_by_line(curl: list[str], api_url: str) -> None:
    """`-N` shows the first token while the answer is still being made; then the reader may leave."""
    body = json.dumps(CHAT | {"stream": True, "max_tokens": 5000})
    command = [*curl, "-N", f"{api_url}/chat/completions", "-H", "content-type: application/json", "-d", body]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        first = next(line for line in running.stdout if '"content":"' in line and '"content":""' not in line)
        assert running.poll() is None
        running.terminate()
    assert json.loads(first.removeprefix("data: "))["object"] == "chat.completion.chunk"


@pytest.mark.parametrize("flags", [(), ("--http1.0",), ("--compressed",), ("-H", "transfer-encoding: chunked")])
def test_a_whole_stream(curl: list[str], api_url: str, flags: tuple[str, ...]) -> None:
    """To its [DONE], and exit code 0: the framing is right also for HTTP/1.0 and for a chunked upload."""
    body = json.dumps(CHAT | {"stream": True})
    done = asked(curl, *flags, f"{api_url}/chat/completions", "-H", "content-type: application/json", "-d", body)
    assert done.returncode == 0, done.stderr
    data = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    text = "".join(choice["delta"].get("content") or "" for event in data for choice in json.loads(event)["choices"])
    assert text == expected_text(HELLO, 20)


def test_an_upload_that_waits_for_100_continue(curl: list[str], api_url: str, tmp_path: Path) -> None:
    """curl asks before it sends a megabyte or more; a form's file arrives."""
    (tmp_path / "sound.wav").write_bytes(b"\1\2" * 1_000_000)
    form = ("-F", f"file=@{tmp_path}/sound.wav", "-F", "model=emulated", "-H", "expect: 100-continue")
    done = asked(curl, f"{api_url}/audio/transcriptions", *form)
    assert json.loads(done.stdout)["text"] != ""


def test_an_error(curl: list[str], api_url: str) -> None:
    """`--fail-with-body`: exit code 22, and the error object on stdout."""
    body = json.dumps(CHAT | {"model": "none"})
    line = (f"{api_url}/chat/completions", "-H", "content-type: application/json", "-d", body)
    done = asked(curl, "--fail-with-body", *line)
    assert done.returncode == 22
    assert json.loads(done.stdout)["error"]["code"] == "model_not_found"
