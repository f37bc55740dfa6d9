"""Routing by prefix over real sockets, with emulated replicas that have a prefix cache of their own."""

import json
from typing import Any

import httpx
import pytest

from gateway.core.endpoints import RELAYED
from gateway.core.request import RequestFacts, parse
from gateway.core.types import ReplicaId
from gateway.emulator.expected import expect
from gateway.emulator.fleet import Fleet
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

SYSTEM = "You are a patient teacher of arithmetic who never gives the answer away. " * 40


def turn(*said: str) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(said)
    return [
        {"role": "system", "content": SYSTEM},
        *({"role": role, "content": text} for role, text in zip(roles, said, strict=False)),
    ]


def facts_of(messages: list[dict[str, str]]) -> RequestFacts:
    body = json.dumps({"model": "emulated", "messages": messages}).encode()
    return parse(RELAYED[b"/v1/chat/completions"], b"application/json", body)


async def ask(harness: Running, messages: list[dict[str, str]], **headers: str) -> httpx.Response:
    body: dict[str, Any] = {"model": "emulated", "messages": messages, "max_tokens": 4}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{harness.url}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    return answer


async def test_a_conversation_finds_its_cache() -> None:
    """The second turn goes where the first one was, and the replica reports the cached tokens that were expected."""
    async with Fleet(3, speed=50) as fleet, running(config_for(fleet.urls, policy="prefix")) as harness:
        first = await ask(harness, turn("one"))
        second = await ask(harness, turn("one", "two", "three"))
        assert first.headers["x-gateway-reason"] == "load"
        assert second.headers["x-gateway-reason"] == "prefix"
        assert second.headers["x-gateway-replica"] == first.headers["x-gateway-replica"]
        records = await harness.settled(2)
        assert records[1]["cached_tokens"]
        text = harness.gateway.metrics.render().decode()
        (hit,) = [
            line for line in text.splitlines() if line.startswith('gateway_prefix_tokens_total{kind="expected_hit"')
        ]
        assert float(hit.split()[-1]) > 500
        assert harness.gateway.desk.ratios.bytes_per_token("emulated") != 4


async def test_the_reply_is_part_of_the_next_turn() -> None:
    """A streamed reply is known to be held by the replica that gave it, before the next turn is asked for."""
    async with Fleet(3, speed=50) as fleet, running(config_for(fleet.urls, policy="prefix")) as harness:
        body = {"model": "emulated", "messages": turn("one"), "max_tokens": 400, "ignore_eos": True, "stream": True}
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{harness.url}/v1/chat/completions", json=body)
        await harness.settled(1)
        index = harness.gateway.index
        prompt = facts_of(turn("one")).blocks
        following = facts_of(turn("one", expect("/v1/chat/completions", body).text, "two")).blocks
        assert len(following) >= len(prompt) + 2
        held = index.match(following)
        assert held.depth(ReplicaId(answer.headers["x-gateway-replica"])) >= len(following) - 1


async def test_a_session_stays_and_its_header_is_passed_on() -> None:
    """Requests of one session that share no prompt go to one replica."""
    async with Fleet(3, speed=50) as fleet, running(config_for(fleet.urls, policy="session")) as harness:
        answers = [
            await ask(harness, [{"role": "user", "content": f"{i} bottles"}], **{"X-Session-Id": "s7"})
            for i in range(4)
        ]
        assert len({answer.headers["x-gateway-replica"] for answer in answers}) == 1
        assert {answer.headers["x-gateway-reason"] for answer in answers} == {"session"}


async def test_a_replica_that_restarts_is_forgotten() -> None:
    """Nobody listens at its port: what it held is gone, and the request is answered by another."""
    async with Fleet(2, speed=50) as fleet, running(config_for(fleet.urls, policy="prefix")) as harness:
        gateway = harness.gateway
        home = (await ask(harness, turn("one"))).headers["x-gateway-replica"]
        assert gateway.desk.index.blocks(home) > 0
        gateway.pool.close()
        await fleet.replica(int(home[1:])).stop()
        again = await ask(harness, turn("one"))
        assert again.headers["x-gateway-replica"] != home
        assert gateway.desk.index.blocks(home) == 0
