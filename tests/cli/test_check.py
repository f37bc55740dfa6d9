"""`gateway check` tells what is wrong with a config, and with the replicas that it names."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from gateway.cli import main
from gateway.cli.check import look
from gateway.config import load

MODELS = '{"data": [{"id": "m2"}, {"id": "m1"}]}'
GOOD = {"/health": (200, ""), "/v1/models": (200, MODELS), "/version": (200, '{"version": "0.9"}')}
Answers = Mapping[str, tuple[int, str]]
Replicas = Callable[[Answers], str]


@contextmanager
def serving(answers: Answers, key: str | None = None) -> Iterator[str]:
    """The URL of a server with these answers, by path; with a key it wants that bearer token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, ""))
            if key is not None and self.headers["authorization"] != f"Bearer {key}":
                status = 401
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def replica() -> Iterator[Replicas]:
    """Starts a scripted replica; all stop after the test."""
    with ExitStack() as stack:
        yield lambda answers: stack.enter_context(serving(answers))


def write(tmp_path: Path, *entries: str) -> str:
    file = tmp_path / "gateway.yaml"
    file.write_text("replicas:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries), encoding="utf-8")
    return str(file)


def test_a_wrong_config_is_2_with_all_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors go to stderr, one a line; nothing is asked."""
    file = write(tmp_path, "url: x", "url: 'http://a:1', engine: y")
    assert main(["check", "-c", file]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[1] for line in err.splitlines()] == ["replicas[0].url", "replicas[1].engine"]


def test_offline_asks_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A right config is 0, whether or not its replicas live; what has no effect is noted."""
    file = write(tmp_path, "url: 'http://127.0.0.1:1', cost_per_hour: 4")
    assert main(["check", "-c", file, "--offline"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "note: replicas.cost_per_hour has no effect in this version",
        "The config is right. Replicas: 1; none was asked.",
    ]


def test_without_replicas_nothing_can_be_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """The defaults are a right config."""
    assert main(["check"]) == 0
    assert "Replicas: none; gateway serve starts an emulated fleet." in capsys.readouterr().out


def test_a_table_of_good_and_bad(tmp_path: Path, replica: Replicas, capsys: pytest.CaptureFixture[str]) -> None:
    """One row for each replica, in the config's order; one that is wrong makes it 1."""
    good, sick = replica(GOOD), replica(GOOD | {"/health": (503, "")})
    assert main(["check", "-c", write(tmp_path, f"url: '{good}', name: good", f"url: '{sick}', name: sick")]) == 1
    heads, first, second = capsys.readouterr().out.splitlines()
    assert heads.split() == ["NAME", "URL", "STATE", "MODELS", "LATENCY", "VERSION", "PROBLEM"]
    assert [*first.split()[:4], *first.split()[5:]] == ["good", good, "ok", "m1,m2", "ms", "0.9"]
    assert second.split(maxsplit=6) == ["sick", sick, "wrong", "-", "-", "-", "/health: 503 instead of 200"]


def test_json(tmp_path: Path, replica: Replicas, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for machines; a good fleet is 0."""
    url = replica(GOOD)
    assert main(["check", "-c", write(tmp_path, f"url: '{url}', name: a"), "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["replicas"][0].pop("latency_ms") > 0
    assert answer == {
        "ok": True,
        "replicas": [
            {"name": "a", "url": url, "state": "ok", "models": ["m1", "m2"], "version": "0.9", "problem": None}
        ],
        "unserved_aliases": {},
        "gpu_sources": [],
        "gpus": [],
        "not_effective": [],
    }


def test_an_alias_of_nothing(tmp_path: Path, replica: Replicas, capsys: pytest.CaptureFixture[str]) -> None:
    """Named in the table and in JSON, and it makes the check 1; one that is served, or cannot be told, does not."""
    file = Path(write(tmp_path, f"url: '{replica(GOOD)}'"))
    file.write_text(file.read_text() + "models: {aliases: {small: m1, large: m9}}\n")
    assert main(["check", "-c", str(file)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "models.aliases.large: no replica that answers serves m9"
    assert main(["check", "-c", str(file), "--format", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["unserved_aliases"]) == (False, {"large": "m9"})
    assert main(["check", "-c", str(file), "--offline"]) == 0


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({}, "/health: 404 instead of 200"),
        ({"/health": (200, "")}, "/v1/models: 404 instead of 200"),
        (GOOD | {"/v1/models": (403, "")}, "/v1/models: 403, the replica wants another api_key"),
        (GOOD | {"/v1/models": (200, "<html>")}, "/v1/models names no model: is this an OpenAI-compatible server?"),
        (GOOD | {"/v1/models": (200, '{"data": []}')}, "/v1/models names no model: is this an OpenAI-compatible serv"),
    ],
)
def test_a_problem_is_named(replica: Replicas, answers: Answers, problem: str) -> None:
    """What was asked, what came, and what to look at."""
    config = load(None, {"GATEWAY_REPLICAS": f"[{{url: '{replica(answers)}'}}]"})
    (finding,) = anyio.run(look, config)
    assert finding.state == "wrong"
    assert (finding.problem or "").startswith(problem)


@pytest.mark.parametrize("version", [(404, ""), (200, "x"), (200, "[]"), (200, "{}"), (200, '{"version": 1}')])
def test_a_replica_need_not_tell_its_version(replica: Replicas, version: tuple[int, str]) -> None:
    """Not every engine does; a version that is not known is no version."""
    config = load(None, {"GATEWAY_REPLICAS": f"[{{url: '{replica(GOOD | {'/version': version})}'}}]"})
    (finding,) = anyio.run(look, config)
    assert (finding.state, finding.version) == ("ok", None)


def test_any_openai_server_needs_only_its_models(replica: Replicas) -> None:
    """`engine: openai` promises no `/health`."""
    url = replica({"/v1/models": (200, MODELS)})
    (finding,) = anyio.run(look, load(None, {"GATEWAY_REPLICAS": f"[{{url: '{url}', engine: openai}}]"}))
    assert (finding.state, finding.models) == ("ok", ["m1", "m2"])


@pytest.mark.parametrize(("key", "state"), [("right", "ok"), ("wrong", "wrong")])
def test_the_replicas_own_key_is_shown_to_it(key: str, state: str) -> None:
    """A key that the replica refuses is found before a client finds it."""
    with serving(GOOD, key="right") as url:
        config = load(None, {"GATEWAY_REPLICAS": f"[{{url: '{url}', api_key: {key}}}]"})
        (finding,) = anyio.run(look, config)
    assert finding.state == state


def test_replicas_that_refuse_or_keep_silent(tmp_path: Path) -> None:
    """Neither hangs the check: one is refused at once, the other is given up."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{s.getsockname()[1]}" for s in (silent, closed)]
        config = load(None, {"GATEWAY_REPLICAS": f"[{{url: '{urls[0]}'}}, {{url: '{urls[1]}'}}]"})
        first, second = anyio.run(look, config, 0.1)
    assert first.problem == "/health: no answer in time"
    assert (second.problem or "").startswith("/health: All connection attempts failed")


def test_discovery_is_asked_too(tmp_path: Path, replica: Replicas, capsys: pytest.CaptureFixture[str]) -> None:
    """What it finds is asked as the others are; a source that fails is a finding."""
    listed = tmp_path / "fleet.json"
    file = tmp_path / "gateway.yaml"
    file.write_text(f"discovery: {{file: '{listed}'}}\n", encoding="utf-8")
    assert main(["check", "-c", str(file), "--format", "json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["replicas"]
    assert (finding["name"], finding["state"]) == ("discovery", "wrong")
    assert str(listed) in finding["problem"]
    listed.write_text(json.dumps([{"url": replica(GOOD), "name": "found"}]), encoding="utf-8")
    assert main(["check", "-c", str(file)]) == 0
    assert "found" in capsys.readouterr().out
    assert main(["check", "-c", str(file), "--offline"]) == 0
    assert "emulated" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("discovery", "key"),
    [
        ("{dns: a, port: 1, file: b}", "discovery.file"),
        ("{file: b, kubernetes: {selector: c}}", "discovery.kubernetes"),
        ("{kubernetes: {namespace: c}}", "discovery.kubernetes.selector"),
        ("{port: 1}", "discovery.port"),
        ("{dns: a, port: 0}", "discovery.port"),
        ("{file: b, api_key: c}", "discovery.file"),
        ("{consul: x}", "discovery.consul"),
    ],
)
def test_a_discovery_that_cannot_be(
    tmp_path: Path, discovery: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One source, and only keys that belong to it."""
    file = tmp_path / "gateway.yaml"
    file.write_text(f"discovery: {discovery}\n", encoding="utf-8")
    assert main(["check", "-c", str(file), "--offline"]) == 2
    assert capsys.readouterr().err.split(": ")[1] == key
