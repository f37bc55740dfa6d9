"""A late first token of the interactive class: a second replica is asked, and one answer is given."""

import pytest

from gateway.config import Resilience
from gateway.config.keys import Probe
from tests.http.test_resume import metric
from tests.peers import DONE, SSE, WHOLE, chunked, scripted, sized, token
from tests.raw import CHAT, chat, connect
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

HEDGED = Resilience(probe=Probe(interval_s=3600.0), hedge_after_s=0.05)
INTERACTIVE = "x-gateway-class: interactive"


async def quiet_traffic(harness: Running, requests: int = 40) -> None:
    """So much traffic that one hedge is less than a twentieth of it."""
    now = harness.gateway.clock.monotonic()
    for _ in range(requests):
        harness.gateway.desk.hedges.came(now)


async def test_the_second_one_is_quicker() -> None:
    """Its answer is given, and the first replica's request is aborted."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=HEDGED)) as harness:
        await quiet_traffic(harness)
        async with connect(harness.port) as client:
            client.post(chat(stream=True), CHAT, INTERACTIVE)
            first = await peers.call()
            first.send(SSE)  # vLLM sends its head at once, which says nothing
            (await peers.call()).send(WHOLE)
            response = await client.response()
            await first.left()
        assert response.body == token("a") + token("b", "stop") + DONE
        assert (response.header("x-gateway-reason"), response.header("x-gateway-attempts")) == ("hedge", "2")
        (record,) = await harness.settled(1)
        assert (record["reason"], record["status"]) == ("hedge", 200)
        assert record["replica"] == record["replicas"][1]  # type: ignore[index]
        assert metric(harness, "gateway_hedges_total", "outcome") == {"won": 1.0}


async def test_the_first_one_comes_after_all() -> None:
    """The hedge is aborted."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=HEDGED)) as harness:
        await quiet_traffic(harness)
        async with connect(harness.port) as client:
            client.post(chat(stream=True), CHAT, INTERACTIVE)
            first, second = await peers.call(), await peers.call()
            first.send(WHOLE)
            response = await client.response()
            await second.left()
        assert response.complete
        (record,) = await harness.settled(1)
        assert record["replica"] == record["replicas"][0]  # type: ignore[index]
        assert metric(harness, "gateway_hedges_total", "outcome") == {"lost": 1.0}


@pytest.mark.parametrize("who", ["first", "second"])
async def test_one_of_the_two_fails(who: str) -> None:
    """The other answers, and the client sees nothing of it."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=HEDGED)) as harness:
        await quiet_traffic(harness)
        async with connect(harness.port) as client:
            client.post(chat(stream=True), CHAT, INTERACTIVE)
            calls = {"first": await peers.call(), "second": await peers.call()}
            calls.pop(who).send(sized(b"{}", b"500 No"))
            next(iter(calls.values())).send(WHOLE)
            assert (await client.response()).body == token("a") + token("b", "stop") + DONE
        await harness.settled(1)


async def test_both_fail() -> None:
    """The last error is told."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=HEDGED)) as harness:
        await quiet_traffic(harness)
        async with connect(harness.port) as client:
            client.post(chat(stream=True), CHAT, INTERACTIVE)
            calls = [await peers.call(), await peers.call()]
            for call in calls:
                call.close()
            assert (await client.response()).status == 502
        await harness.settled(1)


@pytest.mark.parametrize(
    ("fields", "line", "traffic"),
    [
        ({"stream": True}, "x-gateway-class: standard", 40),
        ({"stream": False}, INTERACTIVE, 40),
        ({"stream": True}, INTERACTIVE, 10),
    ],
)
async def test_who_is_not_hedged(fields: dict[str, bool], line: str, traffic: int) -> None:
    """Other classes, whole answers, and what would be more than a twentieth of the traffic."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=HEDGED)) as harness:
        await quiet_traffic(harness, traffic)
        async with connect(harness.port) as client:
            client.post(chat(**fields), CHAT, line)
            call = await peers.call()
            await harness.tick(0.3)
            call.send(WHOLE if fields["stream"] else sized(b"{}"))
            assert (await client.response()).complete
        assert len(peers.calls) == 1


async def test_a_stream_that_runs_is_not_hedged() -> None:
    """Its first token came in time."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=HEDGED)) as harness:
        await quiet_traffic(harness)
        async with connect(harness.port) as client:
            client.post(chat(stream=True), CHAT, INTERACTIVE)
            call = await peers.call()
            call.send(SSE + chunked(token("a")))
            await client.until(token("a"))
            await harness.tick(0.3)
            call.send(chunked(token("b", "stop"), DONE) + b"0\r\n\r\n")
            await client.until(b"0\r\n\r\n")
        assert len(peers.calls) == 1
