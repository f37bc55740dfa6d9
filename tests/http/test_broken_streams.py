"""Replicas that fail after the first byte: what the client gets, and what it costs."""

import json
from collections.abc import Callable

import pytest

from gateway.config import Resilience
from gateway.core.endpoints import RELAYED, Shape
from gateway.emulator.fleet import Fleet
from tests.http.exchanges import BODIES, EVENTS
from tests.http.failures import ABORT, BROKEN, CALM, IMPATIENT, ROLE, WRONG, sends
from tests.peers import DONE, LAST, SSE, Call, chunked, scripted, sized, token
from tests.raw import CHAT, Response, chat, connect
from tests.running import config_for, running

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("begun", [True, False])
async def test_the_replicas_own_error_event(begun: bool) -> None:
    """Is passed on, once; nothing comes behind it, least of all `[DONE]`; the transfer is broken."""
    start = token("a") if begun else b""
    response = await broken(SSE + (chunked(start) if begun else b"") + chunked(BROKEN, DONE) + LAST)
    assert (response.status, response.body) == (200, start + BROKEN)


@pytest.mark.parametrize("begun", [True, False])
async def test_an_error_event_that_refuses_the_request(begun: bool) -> None:
    """The client's own mistake, found in mid-stream: told as vLLM tells it, with its end; the connection lives on."""
    start = token("a") if begun else b""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=CALM)) as harness:
        async with connect(harness.port) as client:
            client.post(chat(stream=True))
            (await peers.call()).send(SSE + (chunked(start) if begun else b"") + chunked(WRONG, DONE) + LAST)
            response = await client.response()
            assert (response.status, response.body, response.complete) == (200, start + WRONG + DONE, True)
            client.post(chat())
            (await peers.call()).send(sized(b"{}"))
            assert (await client.response()).status == 200
        assert [record["status"] for record in await harness.settled(2)] == [400, 200]
        assert len(peers.calls) == 2


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
