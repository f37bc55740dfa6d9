"""Replicas that fail, before the first byte and after it: what the client gets, and what it costs."""

import json
from collections.abc import Callable

import anyio
import msgspec
import pytest

from gateway.config import Resilience
from gateway.config.keys import Probe
from gateway.core.endpoints import RELAYED, Shape
from gateway.emulator.fleet import Fleet
from tests.http.test_relay import BODIES, EVENTS
from tests.peers import DONE, LAST, SSE, WHOLE, Call, chunked, deaf, scripted, sized, token
from tests.raw import CHAT, Response, chat, connect
from tests.running import config_for, running

pytestmark = pytest.mark.anyio

RARELY = Probe(interval_s=3600.0)
"""After the first look no probe changes a replica's state in mid-test."""
CALM = Resilience(probe=RARELY)
IMPATIENT = Resilience(probe=RARELY, first_token_timeout_s=0.3, idle_timeout_s=0.3)
BUSY = b'{"error":{"message":"busy","type":"Service Unavailable","param":null,"code":503}}'
ABORT = b'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"abort"}]}\n\n'
BROKEN = b'data: {"error":{"message":"EngineCore died","type":"InternalServerError","param":null,"code":500}}\n\n'
WRONG = b'data: {"error":{"message":"Grammar error","type":"BadRequestError","param":null,"code":400}}\n\n'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'


def sends(raw: bytes, *, close: bool = True, reset: bool = False) -> Callable[[Call], None]:
    def act(call: Call) -> None:
        call.send(raw)
        if reset:
            call.reset()
        elif close:
            call.close()

    return act


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


# after the first byte


def error_of(event: bytes, shape: Shape) -> dict[str, object]:
    """OpenAI's error object out of an event of this API."""
    if shape in (Shape.MESSAGE, Shape.RESPONSE):
        assert event.startswith(b"event: error\n")
    data: dict[str, dict[str, object]] = json.loads(event[event.index(b"data: ") + 6 :])
    assert set(data) == ({"type", "error"} if shape in (Shape.MESSAGE, Shape.RESPONSE) else {"error"})
    assert set(data["error"]) == {"message", "type", "param", "code"}
    return data["error"]


LATE: dict[str, Callable[[Call], None]] = {
    "closes": Call.close,
    "resets": Call.reset,
    "half an event": sends(b"100\r\ndata: {"),
    "a bad chunk": sends(b"zz\r\nnot a chunk\r\n", close=False),
    "a chunk longer than it says": sends(b"3\r\ndata: x\n\n\r\n", close=False),
    "ends without an end": sends(LAST, close=False),
}


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("failure", LATE)
async def test_a_stream_breaks(path: str, failure: str) -> None:
    """The events so far, one error event in the API's own shape, and then a broken transfer: no last chunk."""
    shape = RELAYED[path.encode()].shape
    first = EVENTS[shape][0] if shape in EVENTS else token("a")
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as client,
    ):
        client.post(BODIES[shape] % b',"stream":true', path)
        call = await peers.call()
        call.send(SSE + chunked(first))
        await client.head()
        assert await client.chunk() == first
        LATE[failure](call)
        assert error_of(await client.chunk(), shape)["code"] == "replica_failed"
        assert await client.ended()
        assert not client.was_reset
        (record,) = await harness.settled(1)
        assert (record["status"], record["attempts"]) == (502, 1)
        assert len(peers.calls) == 1


async def broken(answer: bytes, *, resilience: Resilience = CALM) -> Response:
    """The response to a stream that begins like this and does not end well."""
    async with (
        scripted() as peers,
        running(config_for(peers.urls, resilience=resilience)) as harness,
        connect(harness.port) as client,
    ):
        client.post(chat(stream=True))
        (await peers.call()).send(answer)
        response = await client.response()
        assert not response.complete
        assert await client.ended()
        await harness.settled(1)
        return response


@pytest.mark.parametrize("error", [BROKEN, WRONG])
@pytest.mark.parametrize("begun", [True, False])
async def test_the_replicas_own_error_event(error: bytes, begun: bool) -> None:
    """Is passed on, once; nothing comes behind it, least of all `[DONE]`; the transfer is broken."""
    start = token("a") if begun else b""
    response = await broken(SSE + (chunked(start) if begun else b"") + chunked(error, DONE) + LAST)
    assert (response.status, response.body) == (200, start + error)


@pytest.mark.parametrize("together", [True, False])
async def test_an_abort(together: bool) -> None:
    """`finish_reason: "abort"` is not passed on as an end: an error event takes its place, and no `[DONE]` follows."""
    tail = chunked(token("a") + ABORT + DONE) if together else chunked(token("a"), ABORT, DONE)
    response = await broken(SSE + tail + LAST)
    assert response.body.startswith(token("a"))
    assert error_of(response.body.removeprefix(token("a")), Shape.CHAT)["code"] == "replica_failed"


async def test_silence_in_mid_stream() -> None:
    """An error event after the idle time-out, with the time-out's code."""
    response = await broken(SSE + chunked(token("a")), resilience=IMPATIENT)
    assert error_of(response.body.removeprefix(token("a")), Shape.CHAT)["code"] == "replica_timeout"


async def test_silence_after_the_role() -> None:
    """The role chunk is no token: the first token's time-out still runs."""
    response = await broken(SSE + chunked(ROLE), resilience=IMPATIENT)
    assert error_of(response.body.removeprefix(ROLE), Shape.CHAT)["code"] == "replica_timeout"


@pytest.mark.parametrize("reset", [True, False])
async def test_a_length_that_is_not_met(reset: bool) -> None:
    """A whole answer that breaks off reaches the client as a broken transfer, not as a shorter answer."""
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as client,
    ):
        client.post(chat())
        call = await peers.call()
        call.send(sized(b"0123456789")[:-5])
        await client.until(b"\r\n\r\n01234")
        call.reset() if reset else call.close()
        assert await client.ended()
        assert not client.was_reset
        (record,) = await harness.settled(1)
        assert record["status"] == 502


async def test_chunks_that_do_not_end() -> None:
    """The same for a whole answer in chunks: its last chunk is missing."""
    async with (
        scripted() as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as client,
    ):
        client.post(chat())
        call = await peers.call()
        call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"01234"))
        assert (await client.head()).status == 200
        assert await client.chunk() == b"01234"
        call.close()
        assert await client.ended()


@pytest.mark.parametrize("fault", ["die", "abort", "engine_error", "bad_chunk", "cut_after_bytes"])
async def test_a_replica_fails_in_mid_stream(fault: str) -> None:
    """The emulated replica's own ways to fail: the client sees an error event and never a `[DONE]`."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls, resilience=CALM)) as harness:
        async with connect(harness.port) as client:
            client.post(chat(stream=True, max_tokens=20_000, ignore_eos=True))
            await client.until(b'"content":" ')
            fleet.replica(0).fault(fault)
            rest = await client.rest()
        assert b'data: {"error"' in rest
        assert b"[DONE]" not in rest
        assert not rest.endswith(LAST)
        (record,) = await harness.settled(1)
        assert record["status"] == 502


async def test_the_gateway_never_closes_only_its_sending_half() -> None:
    """vLLM takes that for a client that has left: while the replica answers, it sees no end."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        for length in (1, 200_000):
            client.post(chat("x" * length, stream=True))
            call = await peers.call()
            call.send(SSE + chunked(token("a")))
            await client.until(token("a"))
            assert not call.gone
            call.send(chunked(token("", "stop"), DONE) + LAST)
            await client.until(LAST)
            assert not call.gone


# kept-alive connections


async def test_a_stale_connection_is_no_failure() -> None:
    """The replica closes a kept-alive connection as the request comes: it is asked again on a new one, which is no
    second attempt, and the replica stays in good standing."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat())
        first = await peers.call()
        first.send(sized(b"1"))
        assert (await client.response()).body == b"1"
        client.post(chat())
        stale = await peers.call()
        assert stale.connection is first.connection
        stale.close()
        fresh = await peers.call()
        assert fresh.connection is not first.connection
        fresh.send(sized(b"2"))
        response = await client.response()
        assert (response.status, response.body, response.header("x-gateway-attempts")) == (200, b"2", None)
        assert [record["attempts"] for record in await harness.settled(2)] == [1, 1]


async def test_a_connection_that_closed_while_idle() -> None:
    """It is gone from the pool before anybody needs it."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        for _ in range(3):
            client.post(chat())
            call = await peers.call()
            call.send(sized(b"{}"))
            call.close()
            assert (await client.response()).header("x-gateway-attempts") is None
        assert [record["attempts"] for record in await harness.settled(3)] == [1, 1, 1]


async def test_every_replica_has_a_stale_connection() -> None:
    """The first replica's connection is stale and its new one is refused; the second's is stale, too: that is still
    one failed attempt, and the second replica's answer on a new connection."""
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as one,
        connect(harness.port) as two,
    ):
        one.post(chat())
        two.post(chat())
        calls = [await peers.call(), await peers.call()]
        for call in calls:
            call.send(sized(b"{}"))
        await one.response()
        await two.response()
        one.post(chat())
        (await peers.call()).close()  # stale
        (await peers.call()).close()  # its new connection fails, too
        (await peers.call()).close()  # stale, at the other replica
        (await peers.call()).send(sized(b"good"))
        response = await one.response()
        assert (response.status, response.body, response.header("x-gateway-attempts")) == (200, b"good", "2")


async def test_a_request_that_was_half_answered_is_not_sent_again() -> None:
    """Bytes have come on a kept-alive connection before it broke: with one replica that is a failure."""
    async with (
        scripted() as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as client,
    ):
        client.post(chat())
        (await peers.call()).send(sized(b"{}"))
        await client.response()
        client.post(chat())
        call = await peers.call()
        call.send(b"HTTP/1.1 200")
        call.close()
        assert (await client.response()).status == 502
        assert len(peers.calls) == 2
