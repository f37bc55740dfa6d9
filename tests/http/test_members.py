"""Replicas that are added and removed on the admin port while requests run, over real sockets."""

import gc
import json
from typing import Any

import anyio
import httpx
import pytest

from gateway.config import Resilience
from gateway.config.keys import Probe
from gateway.core.types import ReplicaId, ReplicaState
from gateway.emulator.fleet import Fleet
from tests.api.shapes import assert_openai_error
from tests.raw import chat, connect
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

OFTEN = Resilience(probe=Probe(interval_s=0.05))
LONG = {"model": "emulated", "stream": True, "max_tokens": 200, "ignore_eos": True}
LONG |= {"messages": [{"role": "user", "content": "Count."}]}


def admin(harness: Running) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=harness.admin_url, timeout=20, trust_env=False)


def states(harness: Running) -> dict[str, ReplicaState]:
    return {view.id: view.state for view in harness.gateway.board.current.replicas}


async def until(harness: Running, **wanted: ReplicaState) -> None:
    """Wait for a fleet of exactly these replicas in these states."""
    with anyio.fail_after(10):
        while states(harness) != wanted:
            await anyio.sleep(0.005)


def text_of(answer: bytes) -> str:
    """The text of a stream that has come to its end."""
    events = [line.removeprefix(b"data: ") for line in answer.split(b"\n") if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    chunks: list[dict[str, Any]] = [json.loads(event) for event in events[:-1]]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def stream(harness: Running, done: list[tuple[str, str]]) -> None:
    async with httpx.AsyncClient(base_url=harness.url, timeout=20, trust_env=False) as http:
        answer = await http.post("/v1/chat/completions", json=LONG)
    done.append((answer.headers["x-gateway-replica"], text_of(answer.content)))


async def test_one_replica_takes_over_from_another_under_a_running_stream() -> None:
    """Added: probed and warmed before it takes traffic. Removed: its stream goes on to its end, new requests go
    elsewhere, and then it has left."""
    async with Fleet(2, speed=1) as fleet, running(config_for(fleet.urls[:1], resilience=OFTEN)) as h, admin(h) as http:
        done: list[tuple[str, str]] = []
        async with anyio.create_task_group() as group:
            group.start_soon(stream, h, done)
            with anyio.fail_after(10):
                while not h.gateway.books.total_in_flight():
                    await anyio.sleep(0.005)
            added = await http.post("/admin/replicas", json={"url": fleet.urls[1], "name": "new"})
            assert (added.status_code, added.json()["state"]) == (201, "ejected")
            await until(h, r0=ReplicaState.READY, new=ReplicaState.READY)
            removed = await http.request("DELETE", "/admin/replicas", params={"name": "r0"})
            assert (removed.status_code, removed.json()["state"], removed.json()["in_flight"]) == (202, "draining", 1)
            assert (await http.post("/admin/replicas/r0/resume")).status_code == 404
            for _ in range(3):
                async with connect(h.port) as client:
                    assert (await client.ask(chat(max_tokens=2))).header("x-gateway-replica") == "new"
            assert states(h)["r0"] is ReplicaState.DRAINING
            assert done == []
        ((replica, text),) = done
        assert (replica, len(text) > 200) == ("r0", True)
        await until(h, new=ReplicaState.READY)
        assert [row["name"] for row in (await http.get("/admin/replicas")).json()["replicas"]] == ["new"]


async def test_a_drain_that_takes_too_long_ends() -> None:
    """After `drain_timeout_s` it has left, and its streams go on elsewhere."""
    async with Fleet(2, speed=1) as fleet:
        config = config_for(fleet.urls, drain_timeout_s=0.3, resilience=OFTEN)
        async with running(config) as h, admin(h) as http:
            done: list[tuple[str, str]] = []
            async with anyio.create_task_group() as group:
                group.start_soon(stream, h, done)
                with anyio.fail_after(10):
                    while not h.gateway.books.total_in_flight():
                        await anyio.sleep(0.005)
                name = next(name for name in ("r0", "r1") if h.gateway.books[ReplicaId(name)].in_flight)
                await http.request("DELETE", "/admin/replicas", params={"name": name})
            assert len(done[0][1]) > 200
            (record,) = await h.settled(1)
            assert (record["status"], record["reason"]) == (200, "resume")


async def test_what_is_refused() -> None:
    """A name that there is: 409. A bad entry: 400, with all that is wrong. A name that there is not: 404."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as h, admin(h) as http:
        taken = await http.post("/admin/replicas", json={"url": "http://127.0.0.1:9", "name": "r0"})
        assert_openai_error(taken, 409, "conflict")
        bad = await http.post("/admin/replicas", json={"url": "ftp://x", "engine": "tgi", "colour": "red"})
        assert bad.status_code == 400
        said = bad.json()["error"]["message"]
        assert [key for key in ("url", "engine", "colour") if f"body: {key}: " not in said] == []
        assert (await http.post("/admin/replicas", content=b"{")).status_code == 400
        assert (await http.post("/admin/replicas", content=b'["x"]')).status_code == 400
        assert_openai_error(await http.request("DELETE", "/admin/replicas?name=r9"), 404, "not_found")
        assert (await http.request("DELETE", "/admin/replicas")).status_code == 400
        page = {"origin": "https://evil.example"}
        assert (await http.post("/admin/replicas", json={"url": "http://x"}, headers=page)).status_code == 403
        assert (await http.request("DELETE", "/admin/replicas?name=r0", headers=page)).status_code == 403
        assert states(h) == {"r0": ReplicaState.READY}


async def test_an_entry_from_the_network_reads_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """`${NAME}` would send a secret of the environment to whoever is named as the URL."""
    monkeypatch.setenv("SOME_SECRET", "s3cret")
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as h, admin(h) as http:
        entry = {"url": "http://127.0.0.1:9", "api_key": "${SOME_SECRET}"}
        answer = await http.post("/admin/replicas", json=entry)
        assert answer.status_code == 400
        assert "s3cret" not in answer.text


async def test_a_name_that_comes_back_elsewhere_uses_no_old_connection() -> None:
    """Pooled connections belong to an address, not to a name."""
    async with (
        Fleet(2, speed=50) as fleet,
        running(config_for(fleet.urls[:1], resilience=OFTEN)) as h,
        admin(h) as http,
    ):
        for url, seen in zip(fleet.urls, fleet.replicas, strict=True):
            if url != fleet.urls[0]:
                await http.request("DELETE", "/admin/replicas?name=r0")
                assert (await http.post("/admin/replicas", json={"url": url, "name": "r0"})).status_code == 201
                await until(h, r0=ReplicaState.READY)
            before = seen.requests_seen
            async with connect(h.port) as client:
                assert (await client.ask(chat(max_tokens=2))).status == 200
            assert seen.requests_seen > before


async def test_nothing_of_the_departed_is_kept() -> None:
    """Thirty replicas come, serve and go: no connection, account, index entry, task or series stays."""
    async with Fleet(1, speed=50) as fleet, running(config_for(fleet.urls, resilience=OFTEN)) as h, admin(h) as http:
        gateway = h.gateway
        for number in range(30):
            name = f"n{number}"
            await http.post("/admin/replicas", json={"url": fleet.urls[0], "name": name})
            await until(h, r0=ReplicaState.READY, **{name: ReplicaState.READY})
            await http.post("/admin/replicas/r0/drain")
            async with connect(h.port) as client:
                assert (await client.ask(chat(max_tokens=2))).header("x-gateway-replica") == name
            await http.post("/admin/replicas/r0/resume")
            await http.request("DELETE", f"/admin/replicas?name={name}")
            await until(h, r0=ReplicaState.READY)
        gateway.leftovers._absent_since = dict.fromkeys(gateway.desk.ledger.replicas(), -1000.0)
        gateway.leftovers.sweep()
        gc.collect()
        assert 'replica="n' not in gateway.metrics.render().decode()
        assert gateway.books.replicas() <= {"r0"}
        assert gateway.recent.replicas() == set()
        assert set(gateway.index._bits) | set(gateway.index._capacity) <= {"r0"}
        assert set(gateway.desk.slowness._paces) <= {"r0"}
        assert len(gateway.pool._addresses) <= 1
