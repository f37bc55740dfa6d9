"""`x-gateway-deadline-ms`: how long a client wants to wait, and what becomes of its request then."""

import json

import pytest

from gateway.config import Resilience
from gateway.config.keys import Probe
from gateway.emulator.fleet import Fleet
from tests.peers import SSE, WHOLE, chunked, scripted, sized, token
from tests.raw import CHAT, chat, connect
from tests.running import config_for, running

pytestmark = pytest.mark.anyio

CALM = Resilience(probe=Probe(interval_s=3600.0))


async def test_what_is_left_travels_with_each_attempt() -> None:
    """The next replica is told less."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=CALM)) as harness:
        async with connect(harness.port) as client:
            client.post(chat(stream=True), CHAT, "x-gateway-deadline-ms: 60000")
            first = await peers.call()
            first.send(sized(b"{}", b"500 No"))
            second = await peers.call()
            second.send(WHOLE)
            assert (await client.response()).status == 200
        told = [int(call.header(b"x-gateway-deadline-ms")[0]) for call in (first, second)]
        assert 60000 > told[0] >= told[1] > 50000


async def test_a_replica_is_not_told_what_nobody_said() -> None:
    """No header without one of the client's."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat())
        call = await peers.call()
        call.send(sized(b"{}"))
        await client.response()
        assert call.header(b"x-gateway-deadline-ms") == []


@pytest.mark.parametrize("stream", [True, False])
async def test_it_passes_before_the_first_byte(stream: bool) -> None:
    """504, the replica's request is aborted, and no other replica is asked."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=CALM)) as harness:
        async with connect(harness.port) as client:
            client.post(chat(stream=stream), CHAT, "x-gateway-deadline-ms: 100")
            call = await peers.call()
            response = await client.response()
            assert (response.status, response.error["code"]) == (504, "deadline_exceeded")
            await call.left()
        (record,) = await harness.settled(1)
        assert (record["status"], record["attempts"]) == (504, 1)
        assert len(peers.calls) == 1


async def test_it_passes_in_mid_stream() -> None:
    """An error event, and no false end."""
    async with Fleet(2) as fleet, running(config_for(fleet.urls, resilience=CALM)) as harness:
        async with connect(harness.port) as client:
            body = chat(stream=True, max_tokens=20000, ignore_eos=True)
            response = await client.ask(body, CHAT, "x-gateway-deadline-ms: 600")
        assert (response.status, response.complete) == (200, False)
        last = response.body.rstrip().rsplit(b"\n\n", 1)[1]
        assert json.loads(last[6:])["error"]["code"] == "deadline_exceeded"
        (record,) = await harness.settled(1)
        assert (record["status"], record["attempts"]) == (504, 1)
        assert [replica.running for replica in fleet.replicas] == [0, 0]


async def test_an_upload_that_takes_longer_is_never_sent() -> None:
    """The deadline counts from the first byte of the request."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        body = json.dumps(chat()).encode()
        client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n"
            b"x-gateway-deadline-ms: 1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        await client.until(b"100 Continue\r\n\r\n")
        started = harness.gateway.clock.monotonic()
        while harness.gateway.clock.monotonic() < started + 0.002:
            pass
        client.send(body)
        response = await client.response()
        assert (response.status, response.error["code"]) == (504, "deadline_exceeded")
        assert peers.calls == []


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "86400001", ""])
async def test_a_wrong_one_is_refused(value: str) -> None:
    """With what would be right."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        response = await client.ask(chat(), CHAT, f"x-gateway-deadline-ms: {value}")
        assert (response.status, response.error["param"]) == (400, "x-gateway-deadline-ms")
        assert "milliseconds" in response.error["message"]


async def test_an_answer_in_time_is_not_disturbed() -> None:
    """Nor is the next request of the connection."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat(stream=True), CHAT, "x-gateway-deadline-ms: 300")
        (await peers.call()).send(WHOLE)
        assert (await client.response()).complete
        client.post(chat(stream=True))
        call = await peers.call()
        call.send(SSE + chunked(token("a")))
        await client.until(token("a"))
        started = harness.gateway.clock.monotonic()
        while harness.gateway.clock.monotonic() < started + 0.4:
            await harness.tick()
        call.send(chunked(token("b", "stop")) + b"0\r\n\r\n")
        await client.until(b"0\r\n\r\n")
        assert [record["status"] for record in await harness.settled(2)] == [200, 200]
