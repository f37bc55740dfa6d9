"""`server.workers: 2` as processes: they share the port, follow one another without loss, and end together."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from tests.processes import Serving, serving

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

CHAT = {"model": "emulated", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello!"}]}
LONG = CHAT | {"stream": True, "max_tokens": 150}


@pytest.fixture
def gateway() -> Iterator[Serving]:
    with serving(GATEWAY_SERVER__WORKERS="2", GATEWAY_SERVER__DRAIN_TIMEOUT_S="20") as started:
        yield started


def members(gateway: Serving) -> set[int]:
    """The processes that serve; the embedded fleet is another child."""
    parent = gateway.command.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(pid) for pid in children if b"--worker" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that in 30 s")


def get(gateway: Serving, path: str) -> httpx.Response:
    return httpx.get(f"{gateway.admin_url}{path}", trust_env=False)


def counted(gateway: Serving) -> float:
    """Requests that the gateway says it has ended."""
    return sum(map(float, re.findall(r"^gateway_requests_total\{.*\} (.+)$", get(gateway, "/metrics").text, re.M)))


def ask(gateway: Serving) -> httpx.Response:
    return httpx.post(f"{gateway.api_url}/chat/completions", json=CHAT, timeout=30, trust_env=False)


async def keep_asking(gateway: Serving, answers: list[str | int], stop: anyio.Event) -> None:
    """Streams one after the other, on one kept-alive connection for as long as it is left open."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        while not stop.is_set():
            try:
                answer = await http.post(f"{gateway.api_url}/chat/completions", json=CHAT | {"stream": True})
            except httpx.HTTPError as error:
                answers.append(repr(error))
            else:
                answers.append(answer.status_code if answer.text.endswith("data: [DONE]\n\n") else answer.text)


async def under_load(gateway: Serving, change: Callable[[], None]) -> list[str | int]:
    """What eight clients get while this happens: 200, or what else."""
    answers: list[str | int] = []
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(keep_asking, gateway, answers, stop)
        await anyio.to_thread.run_sync(change)
        stop.set()
    return answers


async def test_a_rolling_restart_loses_no_request(gateway: Serving) -> None:
    """SIGUSR2 under load: both processes are others afterwards, every stream was whole, and nothing counted is lost."""
    old = members(gateway)

    def roll() -> None:
        gateway.command.process.send_signal(signal.SIGUSR2)
        until(lambda: len(members(gateway)) == 2 and not members(gateway) & old)

    answers = await under_load(gateway, roll)
    assert set(answers) == {200}
    assert len(answers) > 8
    assert counted(gateway) == len(answers)


def test_a_killed_process_is_followed_by_another(gateway: Serving) -> None:
    """Streams of the other one go on, new requests are served, and soon there are two again."""
    with httpx.stream("POST", f"{gateway.api_url}/chat/completions", json=LONG, timeout=30, trust_env=False) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        ends = [answer.extensions["network_stream"].get_extra_info(end)[1] for end in ("server_addr", "client_addr")]
        victim = next(pid for pid in members(gateway) if pid != owner(*ends, members(gateway)))
        os.kill(victim, signal.SIGKILL)
        assert all(ask(gateway).status_code == 200 for _ in range(10))
        assert [first, *lines][-2:] == ["data: [DONE]", ""]
    until(lambda: len(members(gateway) - {victim}) == 2)
    assert counted(gateway) == 11


def owner(server_port: int, client_port: int, pids: set[int]) -> int:
    """The process that holds the server's end of this client's connection."""
    ends = (f":{server_port:04X}", f":{client_port:04X}")
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = [row[9] for row in rows if (row[1][-5:], row[2][-5:]) == ends]
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            if str(descriptor.readlink()) == f"socket:[{inode}]":
                return pid
    raise AssertionError("nobody has it")


def test_the_admin_port_speaks_for_all(gateway: Serving) -> None:
    """Counters add up, a drain reaches both, and the dashboard's figures are of both."""
    for _ in range(12):
        assert ask(gateway).status_code == 200
    assert counted(gateway) == 12
    assert get(gateway, "/dashboard/state.json").json()["requests"] == 12
    assert get(gateway, "/dashboard").headers["content-type"].startswith("text/html")
    for number in (0, 1, 2):
        told = httpx.post(f"{gateway.admin_url}/admin/replicas/emulated-{number}/drain", trust_env=False)
        assert told.status_code == 200
    assert {ask(gateway).headers["x-gateway-replica"] for _ in range(12)} == {"emulated-3"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_streams_finish_and_ends_all(gateway: Serving, number: signal.Signals, code: int) -> None:
    """As with one process; the request line is written by the one that served it."""
    with httpx.stream("POST", f"{gateway.api_url}/chat/completions", json=LONG, timeout=30, trust_env=False) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        gateway.command.process.send_signal(number)
        assert [first, *lines][-2:] == ["data: [DONE]", ""]
    assert gateway.command.process.wait(30) == code
    assert "Traceback" not in gateway.command.all()
    (line,) = gateway.command.log().splitlines()
    assert json.loads(line)["status"] == 200


def test_members_end_with_the_one_that_started_them(gateway: Serving) -> None:
    """After kill -9 the port is free again: they hear that they are left alone."""
    gateway.command.process.kill()
    gateway.command.all()  # to its end: nobody holds it open
    with pytest.raises(httpx.ConnectError):
        ask(gateway)
