"""A config that changes under a running `gateway serve`: SIGHUP, written files, bad files, streams under way."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.test_serve import LONG, streamed_text
from tests.processes import Serving, serving

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def fleet_and_gateway(file: Path) -> Iterator[tuple[list[str], Serving]]:
    """The URLs of an emulated fleet, and a gateway in front of the first two of it."""
    with serving() as fleet:
        urls = fleet.replicas()
        write(file, urls[:2])
        with serving("-c", str(file)) as gateway:
            read_on(gateway)
            yield urls, gateway


def read_on(gateway: Serving) -> None:
    """Go on reading stderr, so that the process never waits for it."""
    stderr = gateway.command.process.stderr
    assert stderr is not None

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed under it when the command has ended
            gateway.command.said.extend(stderr)

    threading.Thread(target=read, daemon=True).start()


def text(urls: list[str], more: str = "") -> str:
    entries = "".join(f"  - {{url: {url}, name: r{number}}}\n" for number, url in enumerate(urls))
    return f"resilience: {{probe: {{interval_s: 0.1}}}}\n{more}replicas:\n{entries}"


def write(file: Path, urls: list[str], more: str = "") -> None:
    file.write_text(text(urls, more), encoding="utf-8")


def state(gateway: Serving) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{gateway.dashboard_url}/state.json", trust_env=False).json()
    return answer


def until(gateway: Serving, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The dashboard's state, as soon as it is as wanted."""
    patience = time.monotonic() + 20
    while not wanted(told := state(gateway)):
        assert time.monotonic() < patience, told
        time.sleep(0.05)
    return told


def fleet_is(*names: str) -> Callable[[dict[str, Any]], bool]:
    """Whether the fleet has these replicas and they are ready."""
    return lambda told: {row["name"]: row["state"] for row in told["replicas"]} == dict.fromkeys(names, "ready")


def test_sighup_changes_fleet_and_policy_under_a_running_stream(tmp_path: Path) -> None:
    """The stream goes on where it is, which drains; what needs a restart is named, the rest is taken."""
    file = tmp_path / "gateway.yaml"
    with fleet_and_gateway(file) as (urls, gateway):
        until(gateway, fleet_is("r0", "r1"))
        with httpx.stream("POST", f"{gateway.api_url}/chat/completions", json=LONG, timeout=30, trust_env=False) as it:
            lines = it.iter_lines()
            first = next(lines)
            serving_it = it.headers["x-gateway-replica"]
            others = [url for number, url in enumerate(urls) if f"r{number}" != serving_it]
            entries = "".join(f"  - {{url: {url}, name: s{number}}}\n" for number, url in enumerate(others))
            file.write_text(
                "server: {port: 1}\nrouting: {policy: round_robin}\nmodels: {aliases: {short: emulated}}\n"
                f"resilience: {{probe: {{interval_s: 0.1}}}}\nreplicas:\n{entries}",
                encoding="utf-8",
            )
            gateway.command.process.send_signal(signal.SIGHUP)
            told = until(gateway, lambda told: told["policy"] == "round_robin")
            assert told["reload"]["ok"]
            assert streamed_text([first, *lines]) != ""
        told = until(gateway, fleet_is("s0", "s1", "s2"))
        assert httpx.get(f"{gateway.admin_url}/admin/config", trust_env=False).json()["server"]["port"] == 0
        models = httpx.get(f"{gateway.api_url}/models", trust_env=False).json()
        assert [model["id"] for model in models["data"]] == ["emulated", "short"]
        assert gateway.command.process.poll() is None


def test_a_bad_file_is_refused_whole_and_the_next_good_one_is_taken(tmp_path: Path) -> None:
    """All errors are told, nothing of it is in effect; files that are written in pieces or put in place are seen."""
    file = tmp_path / "gateway.yaml"
    with fleet_and_gateway(file) as (urls, gateway):
        until(gateway, fleet_is("r0", "r1"))
        write(file, urls, "routing: {policy: best}\nadmission: {queue: 3}\n")
        told = until(gateway, lambda told: told["reload"] is not None)
        assert not told["reload"]["ok"]
        assert [error.split(": ")[1] for error in told["reload"]["errors"]] == ["routing.policy", "admission.queue"]
        assert {row["name"] for row in told["replicas"]} == {"r0", "r1"}
        beside = tmp_path / ".gateway.yaml.swp"
        write(beside, urls)
        os.replace(beside, file)
        told = until(gateway, fleet_is("r0", "r1", "r2", "r3"))
        assert told["reload"]["ok"]
        assert told["reload"]["refused_at"] < told["reload"]["at"]
        file.unlink()
        write(file, urls[:1])
        until(gateway, fleet_is("r0"))
        assert "Traceback" not in "".join(gateway.command.said)


def test_every_process_on_the_port_takes_it(tmp_path: Path) -> None:
    """With `server.workers: 2`: many connections at once, which both processes serve, find nothing of the old fleet."""
    file = tmp_path / "gateway.yaml"
    with serving() as fleet:
        urls = fleet.replicas()
        write(file, urls[:2])
        with serving("-c", str(file), GATEWAY_SERVER__WORKERS="2") as gateway:
            read_on(gateway)
            until(gateway, fleet_is("r0", "r1"))
            assert {answered_by(gateway, n) for n in range(8)} <= {"r0", "r1"}
            entries = "".join(f"  - {{url: {url}, name: new{number}}}\n" for number, url in enumerate(urls[2:]))
            file.write_text(f"resilience: {{probe: {{interval_s: 0.1}}}}\nreplicas:\n{entries}", encoding="utf-8")
            gateway.command.process.send_signal(signal.SIGHUP)
            until(gateway, fleet_is("new0", "new1"))
            with ThreadPoolExecutor(24) as clients:
                names = set(clients.map(lambda n: answered_by(gateway, n), range(48)))
    assert names <= {"new0", "new1"}


def answered_by(gateway: Serving, number: int) -> str:
    """The replica that answers one chat on a connection of its own."""
    body = LONG | {"max_tokens": 20, "messages": [{"role": "user", "content": f"Hello from client {number}!"}]}
    answer = httpx.post(f"{gateway.api_url}/chat/completions", json=body, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-gateway-replica"])


def test_what_was_added_on_the_admin_port_survives_a_reload(tmp_path: Path) -> None:
    """And what was removed there stays away, as long as the file names it."""
    file = tmp_path / "gateway.yaml"
    with fleet_and_gateway(file) as (urls, gateway):
        until(gateway, fleet_is("r0", "r1"))
        path = f"{gateway.admin_url}/admin/replicas"
        body = json.dumps({"url": urls[3], "name": "by-hand"})
        assert httpx.post(path, content=body, trust_env=False).status_code == 201
        assert httpx.delete(path, params={"name": "r1"}, trust_env=False).status_code == 202
        write(file, urls[:3])
        gateway.command.process.send_signal(signal.SIGHUP)
        until(gateway, fleet_is("r0", "r2", "by-hand"))
