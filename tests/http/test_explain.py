"""Explanations of a running gateway: they say what happens next, and change nothing."""

from typing import Any

import httpx
import pytest

from gateway.emulator.fleet import Fleet
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {"model": "emulated", "messages": [{"role": "user", "content": "An old story. " * 200}]}


async def explain(harness: Running, body: object = BODY, query: str = "") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.post(f"{harness.admin_url}/admin/explain{query}", json=body)


async def ask(harness: Running, **headers: str) -> httpx.Response:
    body = BODY | {"max_tokens": 1, "stream": True}
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{harness.url}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    return answer


async def test_it_says_what_happens_and_records_nothing() -> None:
    """Asked twice, the answer is the same; then the request goes where it said, and no replica had heard of it."""
    async with Fleet(3, speed=50) as fleet, running(config_for(fleet.urls, policy="prefix")) as harness:
        first, second = (await explain(harness)).json(), (await explain(harness)).json()
        assert first == second
        assert (first["path"], first["policy"], first["unit"]) == ("/v1/chat/completions", "prefix", "tokens")
        assert [replica["cached_tokens"] for replica in first["replicas"]] == [0, 0, 0]
        assert sum(replica.requests_seen for replica in fleet.replicas) == 0
        assert harness.records() == []
        answered = await ask(harness)
        assert answered.headers["x-gateway-replica"] == first["replicas"][0]["replica"]
        await harness.settled(1)
        later = (await explain(harness)).json()
        assert later["replicas"][0]["replica"] == first["replicas"][0]["replica"]
        assert later["replicas"][0]["cached_tokens"] > 500
        assert later["reason"] == "prefix"


async def test_errors_are_those_of_the_request() -> None:
    """Not JSON, an unknown path, an unknown model: as a client would be told."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as harness:
        unknown = await explain(harness, BODY | {"model": "nope"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
        assert (await explain(harness, query="?path=/v1/chat")).status_code == 400
        assert (await explain(harness, {"messages": "x"})).json()["error"]["param"] == "messages"
        assert (await explain(harness, query="?path=/v1/completions")).status_code == 200


async def test_without_replicas_to_ask() -> None:
    """503: a fleet whose models are not known explains nothing."""
    async with running(config_for(["http://127.0.0.1:9"]), wait_ready=False) as harness:
        answer = await explain(harness)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


async def test_a_request_may_ask_for_its_own_score() -> None:
    """The answer carries the terms of the very decision; nobody else gets them, and no replica sees the question."""
    async with Fleet(2, speed=50) as fleet, running(config_for(fleet.urls, policy="prefix")) as harness:
        assert "x-gateway-score" not in (await ask(harness)).headers
        assert "x-gateway-score" not in (await ask(harness, **{"x-gateway-explain": "0"})).headers
        answered = await ask(harness, **{"x-gateway-explain": "1"})
        terms, best, other = answered.headers["x-gateway-score"].split("; ")
        assert terms.startswith("prefix tokens queued_prefill+own_prefill+")
        assert best.split()[0] == answered.headers["x-gateway-replica"]
        assert answered.headers["x-gateway-reason"] == "prefix"
        total = {line.split("=")[0].split()[0]: int(line.split("=")[0].split()[1]) for line in (best, other)}
        assert total[best.split()[0]] + 500 < total[other.split()[0]]
        assert all(b"x-gateway" not in replica.last.head.lower() for replica in fleet.replicas if replica.recent)


async def test_a_score_outlives_a_failover() -> None:
    """It is that of the decision: the replica that was tried first, and failed, is the best of it."""
    async with Fleet(2, speed=50) as fleet, running(config_for(fleet.urls, policy="prefix")) as harness:
        first = (await explain(harness)).json()["replicas"][0]["replica"]
        fleet.replica(int(first[1:])).fault("error", status=503, times=1)
        answered = await ask(harness, **{"x-gateway-explain": "1"})
        assert answered.headers["x-gateway-reason"] == "failover"
        assert answered.headers["x-gateway-replica"] != first
        assert f"; {first} " in answered.headers["x-gateway-score"]
