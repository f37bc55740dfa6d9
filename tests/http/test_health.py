"""Replicas that die, freeze, drain and come back, over real sockets: who is asked when."""

import json
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from gateway.config import Resilience
from gateway.config.keys import Probe
from gateway.core.hot import LOWEST_PRIORITY
from gateway.core.types import ReplicaState
from gateway.emulator.fleet import Fleet
from tests.peers import DONE
from tests.raw import Response, chat, connect
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

READY, WARMING, SUSPECT, EJECTED, DRAINING = ReplicaState
RARELY = Resilience(probe=Probe(interval_s=3600.0))
"""After the first look only requests change a replica's state."""
OFTEN = Resilience(probe=Probe(interval_s=0.05))
SYSTEM = "You are a patient teacher of arithmetic who never gives the answer away. " * 40


def states(harness: Running) -> list[ReplicaState]:
    return [view.state for view in harness.gateway.board.current.replicas]


async def until(harness: Running, index: int, *wanted: ReplicaState) -> list[ReplicaState]:
    """The states that a replica goes through, until it has been in all these, in this order."""
    seen: list[ReplicaState] = []
    with anyio.fail_after(10):
        while wanted:
            state = states(harness)[index]
            if not seen or seen[-1] is not state:
                seen.append(state)
            if state is wanted[0]:
                wanted = wanted[1:]
            else:
                await anyio.sleep(0.001)
    return seen


async def ask(harness: Running, body: dict[str, Any] | None = None) -> Response:
    async with connect(harness.port) as client:
        return await client.ask(body or chat(max_tokens=2))


def metric(harness: Running, line: str) -> float:
    text = harness.gateway.metrics.render().decode()
    return next((float(row.split()[-1]) for row in text.splitlines() if row.startswith(line)), 0.0)


async def test_a_killed_replica_is_asked_once_more_and_no_more() -> None:
    """One of four dies, and no probe looks: the first refused connection is the last that it is offered."""
    async with (
        Fleet(4, speed=50) as fleet,
        running(config_for(fleet.urls, policy="round_robin", resilience=RARELY)) as h,
    ):
        for _ in range(8):
            assert (await ask(h)).status == 200
        fleet.replica(2).fault("die")
        for _ in range(24):
            assert (await ask(h)).status == 200
        records = await h.settled(32)
        tried = ["r2" in record["replicas"] for record in records]  # type: ignore[operator]
        assert sum(tried[:8]) == 2
        assert sum(tried[8:]) == 1
        assert states(h) == [READY, READY, EJECTED, READY]
        assert metric(h, 'gateway_retries_total{reason="refused"}') == 1


async def test_requests_under_way_pass_it_by() -> None:
    """Many at once: each of those that had it in its ranking goes on to one that lives."""
    async with Fleet(4, speed=50) as fleet, running(config_for(fleet.urls, policy="random", resilience=RARELY)) as h:
        fleet.replica(0).fault("die")
        statuses: list[int] = []

        async def one() -> None:
            statuses.append((await ask(h)).status)

        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(one)
        assert statuses == [200] * 40
        assert states(h)[0] is EJECTED


async def test_it_comes_back_by_two_probes_and_a_warm_up() -> None:
    """The hottest prompt reaches it before any client's request, which then finds it cached there."""
    body = {"model": "emulated", "max_tokens": 2, "messages": [{"role": "system", "content": SYSTEM}]}
    async with Fleet(2) as fleet, running(config_for(fleet.urls, policy="round_robin", resilience=OFTEN)) as h:
        for number in range(4):
            turn = {"role": "user", "content": f"{number} bottles"}
            await ask(h, body | {"messages": [*body["messages"], turn]})  # type: ignore[misc]
        victim = fleet.replica(1)
        victim.fault("die")
        await until(h, 1, EJECTED)
        seen, health = victim.requests_seen, victim.paths_seen["/health"]
        victim.recover()
        assert await until(h, 1, WARMING) == [EJECTED, WARMING]
        assert victim.paths_seen["/health"] - health == 2
        assert await until(h, 1, READY) == [WARMING, READY]
        assert victim.requests_seen - seen == 1
        sent = json.loads(victim.last.body)
        assert (sent["max_tokens"], sent["stream"], sent["priority"]) == (1, False, LOWEST_PRIORITY)
        assert sent["messages"][0]["content"] == SYSTEM
        assert metric(h, 'gateway_warmups_total{outcome="done"}') == 1
        for _ in range(2):
            answer = await ask(h, body | {"messages": [*body["messages"], {"role": "user", "content": "new"}]})  # type: ignore[misc]
            if answer.header("x-gateway-replica") == "r1":
                assert json.loads(answer.body)["usage"]["prompt_tokens_details"]["cached_tokens"] > 200
                break
        else:
            pytest.fail("it takes no traffic")


async def test_a_start_needs_no_warm_up() -> None:
    """Nothing is known to be hot, and nobody was down: ready with the first answer."""
    async with Fleet(2) as fleet, running(config_for(fleet.urls, resilience=OFTEN)) as h:
        assert states(h) == [READY, READY]
        assert [replica.paths_seen["/health"] for replica in fleet.replicas] in ([1, 1], [1, 2], [2, 1], [2, 2])
        assert metric(h, "gateway_warmups_total") == 0


async def test_a_replica_that_was_down_at_the_start() -> None:
    """It comes up later: two probes, and nothing to warm it with."""
    async with Fleet(2) as fleet:
        fleet.replica(1).fault("die")
        async with running(config_for(fleet.urls, resilience=OFTEN), wait_ready=False) as h:
            await until(h, 1, EJECTED)
            fleet.replica(1).recover()
            await until(h, 1, READY)
            assert metric(h, 'gateway_warmups_total{outcome="nothing"}') == 1


@pytest.mark.parametrize("path", ["/health", "/nowhere"])
async def test_probes_ask_the_configured_path(path: str) -> None:
    """A replica that says 404 there is not well."""
    resilience = Resilience(probe=Probe(interval_s=0.05, path=path))
    async with Fleet(1) as fleet, running(config_for(fleet.urls, resilience=resilience), wait_ready=False) as h:
        await until(h, 0, READY if path == "/health" else EJECTED)


async def test_a_frozen_replica() -> None:
    """Its /health says 200 all the while: three requests that time out put it out, and probes do not bring it back."""
    resilience = msgspec.structs.replace(OFTEN, first_token_timeout_s=0.2)
    async with Fleet(2) as fleet, running(config_for(fleet.urls, policy="round_robin", resilience=resilience)) as h:
        frozen = fleet.replica(0)
        frozen.fault("freeze")
        while states(h)[0] is READY:
            assert (await ask(h, chat(stream=True, max_tokens=2))).status == 200
        assert states(h) == [EJECTED, READY]
        assert frozen.requests_seen == 3
        probes = frozen.paths_seen["/health"]
        with anyio.fail_after(10):
            while frozen.paths_seen["/health"] < probes + 4:
                await anyio.sleep(0.01)
        assert states(h) == [EJECTED, READY]


async def test_a_replica_that_drains_by_itself() -> None:
    """vLLM between SIGTERM and its end: /health says 200, new requests get 500, and the next replica answers them."""
    async with (
        Fleet(2, speed=50) as fleet,
        running(config_for(fleet.urls, policy="round_robin", resilience=RARELY)) as h,
    ):
        fleet.replica(0).fault("draining")
        for _ in range(8):
            assert (await ask(h)).status == 200
        assert states(h) == [EJECTED, READY]
        assert fleet.replica(0).requests_seen == 3


@pytest.mark.parametrize("status", [500, 503])
async def test_what_fails_everywhere_is_nobodys_fault(status: int) -> None:
    """A prompt that no engine takes, and a fleet whose queues are full."""
    async with Fleet(2, speed=50) as fleet, running(config_for(fleet.urls, resilience=RARELY)) as h:
        for replica in fleet.replicas:
            replica.fault("error", status=status)
        for _ in range(8):
            assert (await ask(h)).status == status
        assert states(h) == [READY, READY]


async def test_a_full_queue_is_no_failure() -> None:
    """Although the other replica answers."""
    async with (
        Fleet(2, speed=50) as fleet,
        running(config_for(fleet.urls, policy="round_robin", resilience=RARELY)) as h,
    ):
        fleet.replica(0).fault("error", status=503)
        for _ in range(10):
            assert (await ask(h)).status == 200
        assert states(h) == [READY, READY]
        assert metric(h, 'gateway_retries_total{reason="busy"}') == 5


async def test_clients_that_leave_are_no_failures() -> None:
    """Before the first token and in mid-stream, as many as like."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls, resilience=RARELY)) as h:
        replica = fleet.replica(0)
        for number in range(6):
            async with connect(h.port) as client:
                client.post(chat(stream=True, max_tokens=20_000, ignore_eos=True))
                await (client.until(b'"content":" ') if number % 2 else replica.until(lambda r: r.running == 1))
            await replica.until(lambda r: r.running == 0)
        records = await h.settled(6)
        assert {record["status"] for record in records} == {499}
        (view,) = h.gateway.board.current.replicas
        assert (view.state, view.condition.strikes) == (READY, 0)


async def test_when_all_are_out_the_least_bad_serves() -> None:
    """No probe has seen yet that they are back: they are asked all the same, and the answer says so."""
    async with Fleet(2, speed=50) as fleet, running(config_for(fleet.urls, resilience=RARELY)) as h:
        for replica in fleet.replicas:
            replica.fault("die")
        assert (await ask(h)).status == 502
        assert states(h) == [EJECTED, EJECTED]
        for replica in fleet.replicas:
            replica.recover()
        answer = await ask(h)
        assert (answer.status, answer.header("x-gateway-reason")) == (200, "fallback")


async def test_drain_and_resume() -> None:
    """New requests go elsewhere, the stream that runs there goes on to its end; then it takes traffic again."""
    async with (
        Fleet(2) as fleet,
        running(config_for(fleet.urls, policy="round_robin", resilience=OFTEN)) as h,
        httpx.AsyncClient(base_url=h.admin_url, trust_env=False) as admin,
        connect(h.port) as client,
    ):
        client.post(chat(stream=True, max_tokens=60, ignore_eos=True))
        name = (await client.head()).header("x-gateway-replica")
        assert name is not None
        row = (await admin.post(f"/admin/replicas/{name}/drain")).json()
        assert (row["name"], row["state"], row["in_flight"]) == (name, "draining", 1)
        others = {(await ask(h)).header("x-gateway-replica") for _ in range(4)}
        assert name not in others
        assert metric(h, f'gateway_replica_state{{replica="{name}",state="draining"}}') == 1
        assert await client.until(DONE)
        await h.settled(5)
        rows = (await admin.get("/admin/replicas")).json()["replicas"]
        assert {row["name"]: (row["state"], row["in_flight"]) for row in rows}[name] == ("draining", 0)
        row = (await admin.post(f"/admin/replicas/{name}/resume")).json()
        assert row["state"] == "ready"
        assert name in {(await ask(h)).header("x-gateway-replica") for _ in range(2)}


async def test_a_fleet_that_drains_takes_nothing() -> None:
    """Not even in a panic."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls, resilience=RARELY)) as h:
        async with httpx.AsyncClient(base_url=h.admin_url, trust_env=False) as admin:
            await admin.post("/admin/replicas/r0/drain")
        answer = await ask(h)
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert fleet.replica(0).requests_seen == 0


async def test_one_that_was_restarted_while_it_drained() -> None:
    """Its cache is gone: it comes back by its probes and a warm-up."""
    async with (
        Fleet(2) as fleet,
        running(config_for(fleet.urls, resilience=OFTEN)) as h,
        httpx.AsyncClient(base_url=h.admin_url, trust_env=False) as admin,
    ):
        await admin.post("/admin/replicas/r0/drain")
        fleet.replica(0).fault("die")
        with anyio.fail_after(10):
            while not h.gateway.board.current.replicas[0].condition.down:
                await anyio.sleep(0.001)
        fleet.replica(0).recover()
        assert states(h) == [DRAINING, READY]
        assert (await admin.post("/admin/replicas/r0/resume")).json()["state"] == "ejected"
        await until(h, 0, WARMING, READY)
