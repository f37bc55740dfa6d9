"""`gateway explain` against a running gateway: what it prints, and its exit codes."""

import io
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest

from gateway.cli import main
from gateway.config import Admin
from gateway.emulator.fleet import Fleet
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio
TOKEN = "t0ken"
BODY = json.dumps({"model": "emulated", "messages": [{"role": "user", "content": "An old story. " * 200}]})


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def harness() -> AsyncIterator[Running]:
    """A gateway of two replicas whose admin port wants a token."""
    async with Fleet(2) as fleet:
        config = msgspec.structs.replace(config_for(fleet.urls, policy="prefix"), admin=Admin(port=0, token=TOKEN))
        async with running(config) as harness:
            yield harness


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    file = tmp_path / "request.json"
    file.write_text(BODY)
    return str(file)


async def explain(*arguments: str) -> int:
    """The command's exit code; it blocks, so it has a thread of its own."""
    return await anyio.to_thread.run_sync(main, ["explain", *arguments])


async def test_a_table_in_words(harness: Running, request_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The request, the decision, one row for each replica with every term, and what the terms mean."""
    assert await explain(request_file, "--admin", harness.admin_url, "--token", TOKEN) == 0
    out = capsys.readouterr().out
    assert out.startswith("request   /v1/chat/completions, model emulated, about ")
    heads = next(line for line in out.splitlines() if line.startswith("#"))
    assert heads.split()[5:] == [
        "QUEUED_PREFILL",
        "OWN_PREFILL",
        "SLOWED_BY_DECODES",
        "SLOWING_DECODES",
        "KV_PRESSURE",
        "SCORE",
    ]
    assert [line.split()[0] for line in out.splitlines() if " ready " in line] == ["1", "2"]
    assert "prefill of this prompt there, 3 times: for it and for those who wait behind it; 0 blocks" in out


async def test_json_from_stdin(
    harness: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For machines, as the gateway answers; the token comes from the environment, the path from an option."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"model":"emulated","prompt":"x"}')))
    monkeypatch.setenv("GATEWAY_ADMIN__TOKEN", TOKEN)
    monkeypatch.setenv("GATEWAY_ADMIN__PORT", harness.admin_url.rpartition(":")[2])
    assert await explain("-", "--path", "/v1/completions", "--session", "s", "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == "/v1/completions"
    assert len(told["replicas"]) == 2


@pytest.mark.parametrize(
    ("body", "more", "code", "sentence"),
    [
        ("{", [], 2, "the request body is no JSON object"),
        ("{}", [], 2, "no telling which path this request is for"),
        (BODY, ["--path", "/v1/nope"], 2, "/v1/nope is not a path that goes to replicas"),
        (BODY.replace("emulated", "other"), [], 1, "no replica serves the model 'other'"),
        (BODY, ["--token", "wrong"], 2, "this port needs admin.token"),
    ],
)
async def test_what_cannot_be_explained(
    harness: Running,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    body: str,
    more: list[str],
    code: int,
    sentence: str,
) -> None:
    """2 for a mistake of the one who asks, 1 for a fleet that could not serve it; the reason is on stderr."""
    file = tmp_path / "request.json"
    file.write_text(body)
    assert await explain(str(file), "--admin", harness.admin_url, "--token", TOKEN, *more) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err


async def test_what_is_not_there(harness: Running, request_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No file, no gateway, another port of a gateway, no URL: each has its sentence."""
    assert await explain("no/such.json", "--admin", harness.admin_url) == 2
    assert "no/such.json: cannot be read: No such file or directory" in capsys.readouterr().err
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert await explain(request_file, "--admin", f"http://127.0.0.1:{closed.getsockname()[1]}") == 1
    assert "no gateway answers at http://127.0.0.1:" in capsys.readouterr().err
    assert await explain(request_file, "--admin", harness.url) == 2
    assert "is it a gateway's admin port?" in capsys.readouterr().err
    assert await explain(request_file, "--admin", "nowhere") == 2
    assert "no URL of an admin port" in capsys.readouterr().err
