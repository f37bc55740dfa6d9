"""Replicas that fail before the first byte: what the client gets, and what it costs."""

from collections.abc import Callable

import anyio
import msgspec
import pytest

from gateway.emulator.fleet import Fleet
from tests.http.failures import ABORT, BROKEN, BUSY, CALM, IMPATIENT, sends
from tests.peers import DONE, LAST, SSE, WHOLE, Call, chunked, deaf, scripted, sized, token
from tests.raw import chat, connect
from tests.running import config_for, running

pytestmark = pytest.mark.anyio

EARLY: dict[str, Callable[[Call], None]] = {
    "closes": sends(b""),
    "resets": sends(b"", reset=True),
    "half a status line": sends(b"HTTP/1.1 20"),
    "half a head": sends(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-st"),
    "only a head": sends(SSE),
    "only a head, then a reset": sends(SSE, reset=True),
    "a head and half an event": sends(SSE + b"100\r\ndata: {"),
    "an early hint": sends(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "garbage": sends(b"\x16\x03\x01\x02\x00\x01\x00 this is no HTTP \xff\xfe\r\n", close=False),
    "HTTP/0.9": sends(b"hello\r\n"),
    "an endless head": sends(b"HTTP/1.1 200 OK\r\n" + b"x-endless: 1\r\n" * 10_000, close=False),
    "a bad content-length": sends(b"HTTP/1.1 200 OK\r\ncontent-length: 1x\r\n\r\n", close=False),
    "two content-lengths": sends(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", close=False),
    "both framings": sends(SSE[:-2] + b"content-length: 5\r\n\r\n" + chunked(token("a", "stop")), close=False),
    "500": sends(sized(b"{}", b"500 Internal Server Error"), close=False),
    "429": sends(sized(b"{}", b"429 Too Many Requests"), close=False),
    "503": sends(sized(BUSY, b"503 Service Unavailable"), close=False),
    "a bad first chunk": sends(SSE + b"zz\r\n", close=False),
    "a stream without events": sends(SSE + LAST, close=False),
    "its engine's error": sends(SSE + chunked(BROKEN, DONE) + LAST, close=False),
    "an abort": sends(SSE + chunked(ABORT, DONE) + LAST, close=False),
    "an abort and no end": sends(SSE + chunked(ABORT), close=False),
}


@pytest.mark.parametrize("failure", EARLY)
async def test_the_next_replica_answers(failure: str) -> None:
    """Whatever a replica does before its first event, the client sees only the answer of the next one."""
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as client,
    ):
        client.post(chat(stream=True))
        EARLY[failure](await peers.call())
        (await peers.call()).send(WHOLE)
        response = await client.response()
        assert (response.status, response.complete) == (200, True)
        assert response.body == token("a") + token("b", "stop") + DONE
        assert response.header("x-gateway-attempts") == "2"
        assert response.header("x-gateway-reason") == "failover"
        (record,) = await harness.settled(1)
        assert (record["status"], record["attempts"], record["reason"]) == (200, 2, "failover")
        assert set(record["replicas"]) == {"r0", "r1"}  # type: ignore[call-overload]
        assert record["replica"] == record["replicas"][1] == response.header("x-gateway-replica")  # type: ignore[index]


@pytest.mark.parametrize("failure", EARLY)
async def test_nobody_is_left_to_ask(failure: str) -> None:
    """The last replica fails, too: its own 5xx is passed on; an error event that it sent is, too; all else is 502."""
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as client,
    ):
        client.post(chat(stream=True))
        for _ in range(2):
            EARLY[failure](await peers.call())
        response = await client.response()
        assert response.header("x-gateway-attempts") == "2"
        match failure:
            case "429" | "500" | "503":
                assert (response.status, response.body) == (int(failure), BUSY if failure == "503" else b"{}")
            case "its engine's error":
                assert (response.status, response.body, response.complete) == (200, BROKEN, False)
            case _:
                assert (response.status, response.error["code"]) == (502, "replica_failed")
        (record,) = await harness.settled(1)
        assert record["status"] == (response.status if response.status != 200 else 502)
        assert len(peers.calls) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_a_whole_answer_fails_over_too(stream: bool) -> None:
    """Failover does not depend on whether a stream was asked for."""
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as client,
    ):
        client.post(chat(stream=stream))
        (await peers.call()).close()
        (await peers.call()).send(sized(b"{}"))
        response = await client.response()
        assert (response.status, response.header("x-gateway-attempts")) == (200, "2")


async def test_no_more_attempts_than_allowed() -> None:
    """`max_attempts` replicas are asked, each once, and then the error is told."""
    resilience = msgspec.structs.replace(CALM, max_attempts=2)
    async with (
        scripted(4) as peers,
        running(config_for(peers.urls, resilience=resilience)) as harness,
        connect(harness.port) as client,
    ):
        peers.answer = Call.close
        response = await client.ask(chat())
        assert (response.status, response.header("x-gateway-attempts")) == (502, "2")
        (record,) = await harness.settled(1)
        assert len(set(record["replicas"])) == len(peers.calls) == 2  # type: ignore[call-overload]


async def test_a_dead_replica() -> None:
    """Its port refuses: the next one answers; the one that died is asked last from then on."""
    async with (
        Fleet(2, speed=50) as fleet,
        running(config_for(fleet.urls, resilience=CALM)) as harness,
        connect(harness.port) as client,
    ):
        ask = chat(max_tokens=3)
        name = (await client.ask(ask)).header("x-gateway-replica")
        assert name is not None
        fleet.replica(int(name[1:])).fault("die")
        with anyio.fail_after(10):
            first = await client.ask(ask)
        assert (first.status, first.header("x-gateway-attempts")) == (200, "2")
        second = await client.ask(ask)
        assert (second.status, second.header("x-gateway-attempts")) == (200, None)
        assert second.header("x-gateway-replica") != name


async def test_all_are_dead() -> None:
    """502 in OpenAI's shape, which says who cannot be reached."""
    async with Fleet(2) as fleet, running(config_for(fleet.urls, resilience=CALM)) as harness:
        for replica in fleet.replicas:
            replica.fault("die")
        async with connect(harness.port) as client:
            response = await client.ask(chat())
            assert (response.status, response.error["code"]) == (502, "replica_failed")
            assert "cannot be reached" in response.error["message"]
            assert response.header("x-gateway-attempts") == "2"


async def test_a_replica_that_accepts_nothing() -> None:
    """The connect time-out ends the attempt."""
    resilience = msgspec.structs.replace(CALM, connect_timeout_s=0.2)
    with deaf() as url:
        async with (
            running(config_for([url], resilience=resilience), wait_ready=False) as harness,
            connect(harness.port) as client,
        ):
            response = await client.ask({"messages": []})
            assert (response.status, response.error["code"]) == (502, "replica_failed")


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", SSE, SSE + b"100\r\ndata: {"])
async def test_a_replica_that_is_silent(start: bytes) -> None:
    """No first event in time: the next one is asked, and the silent one told; when nobody is left it is 504."""
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=IMPATIENT)) as harness,
        connect(harness.port) as client,
    ):
        for last in (WHOLE, start):
            client.post(chat(stream=True))
            silent = await peers.call()
            silent.send(start)
            await silent.left()
            (await peers.call()).send(last)
            response = await client.response()
            assert response.header("x-gateway-attempts") == "2"
            if last is WHOLE:
                assert (response.status, response.complete) == (200, True)
            else:
                assert (response.status, response.error["code"]) == (504, "replica_timeout")
