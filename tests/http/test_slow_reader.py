"""Clients that read slowly, or not at all: the replica feels it, the gateway's memory does not."""

import hashlib
import socket

import anyio
import anyio.lowlevel
import pytest

from gateway.config import Resilience
from gateway.serving.front import Front
from tests.peers import DONE, LAST, SSE, Call, chunked, scripted, sized, token
from tests.raw import CHAT, Client, chat, connect, request
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

EVENT = token("x" * 16_000)
EVENTS = 2_000
"""32 MB: more than all kernel buffers on the way hold."""
KERNEL_BYTES = 24 << 20
GATEWAY_BYTES = 1 << 20


def front_of(harness: Running) -> Front:
    (front,) = harness.gateway.public.server_state.connections
    assert isinstance(front, Front)
    return front


async def stalled(harness: Running, call: Call) -> None:
    """Return once the gateway has stopped reading; much is still with the replica then, and little in the gateway."""
    front = front_of(harness)
    with anyio.fail_after(10):
        while not front.paused:
            assert front.transport.get_write_buffer_size() < GATEWAY_BYTES
            await anyio.sleep(0.001)
    assert call.unsent > EVENTS * len(EVENT) - KERNEL_BYTES


async def read_to(client: Client, harness: Running, size: int) -> "hashlib._Hash":
    """Read so many bytes, looking now and then at what the gateway holds."""
    digest = hashlib.sha256()
    while size:
        piece = await client.exactly(min(size, 1 << 18))
        digest.update(piece)
        size -= len(piece)
        for front in harness.gateway.public.server_state.connections:
            assert front.transport.get_write_buffer_size() < GATEWAY_BYTES  # type: ignore[union-attr]
    return digest


@pytest.mark.slow
async def test_a_stream_waits_for_its_reader() -> None:
    """The replica's writes stall, the gateway holds next to nothing, and in the end every byte is there."""
    async with (
        scripted(send_bytes=1 << 16) as peers,
        running(config_for(peers.urls)) as harness,
        connect(harness.port, receive_bytes=1 << 16) as client,
    ):
        client.post(chat(stream=True))
        call = await peers.call()
        call.send(SSE + chunked(EVENT) * EVENTS)
        await stalled(harness, call)
        call.send(chunked(token("", "stop"), DONE) + LAST)
        assert (await client.head()).status == 200
        got = 0
        while piece := await client.chunk():
            # Events may be joined into one chunk, never cut.
            assert piece.replace(EVENT, b"") in (b"", token("", "stop"), DONE, token("", "stop") + DONE)
            got += len(piece)
        assert got == EVENTS * len(EVENT) + len(token("", "stop") + DONE)
        (record,) = await harness.settled(1)
        assert record["status"] == 200


@pytest.mark.slow
async def test_a_whole_answer_waits_for_its_reader() -> None:
    """The same for an answer that is not streamed."""
    async with (
        scripted(send_bytes=1 << 16) as peers,
        running(config_for(peers.urls)) as harness,
        connect(harness.port, receive_bytes=1 << 16) as client,
    ):
        body = b"".join(b"%015d\n" % number for number in range(EVENTS * 1000))
        client.post(chat())
        call = await peers.call()
        call.send(sized(body))
        await stalled(harness, call)
        assert (await client.head()).header("content-length") == str(len(body))
        assert (await read_to(client, harness, len(body))).digest() == hashlib.sha256(body).digest()


def narrow(front: Front) -> None:
    """Leave next to no room in the kernel for what a client does not read."""
    front.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def fill(harness: Running, call: Call) -> bytes:
    """Send a chunked answer until the client's kernel buffers are full and the gateway's just begins to fill; what was
    sent of the body."""
    front = front_of(harness)
    narrow(front)
    call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    sent = b""
    piece = b"x" * (16 << 10)
    with anyio.fail_after(10):
        while not front.transport.get_write_buffer_size():
            call.send(chunked(piece))
            sent += piece
            for _ in range(10):  # the gateway reads in a round of this same loop
                await anyio.lowlevel.checkpoint()
    assert not front.paused
    return sent


async def test_an_answer_that_ends_behind_a_slow_reader() -> None:
    """Its last read fills the client's buffer: the replica's connection carries the next request as ever."""
    async with (
        scripted() as peers,
        running(config_for(peers.urls)) as harness,
        connect(harness.port, receive_bytes=4096) as slow,
    ):
        slow.post(chat())
        call = await peers.call()
        body = await fill(harness, call)
        last = b"y" * (100 << 10)
        call.send(chunked(last) + LAST)
        await harness.settled(1)
        assert front_of(harness).paused
        async with connect(harness.port) as client:
            client.post(chat())
            second = await peers.call()
            assert second.connection is call.connection
            second.send(sized(b"{}"))
            assert (await client.response()).body == b"{}"
        assert (await slow.response()).body == body + last


async def test_a_second_request_waits_for_the_first_answers_reader() -> None:
    """A client sends one request behind the other and reads nothing: the second does not begin, or its answer would
    pile up behind the first one."""
    async with (
        scripted() as peers,
        running(config_for(peers.urls)) as harness,
        connect(harness.port, receive_bytes=4096) as slow,
    ):
        slow.post(chat("first"))
        slow.post(chat("second"))
        call = await peers.call()
        body = await fill(harness, call)
        last = b"y" * (100 << 10)
        call.send(chunked(last) + LAST)
        await harness.settled(1)
        async with connect(harness.port) as client:
            client.post(chat("third"))
            third = await peers.call()
            assert b"third" in third.body
            third.send(sized(b"{}"))
            await client.response()
        assert (await slow.response()).body == body + last
        second = await peers.call()
        second.send(sized(b"2"))
        assert (await slow.response()).body == b"2"


async def test_answers_that_nobody_reads_do_not_pile_up() -> None:
    """Thousands of refused requests in a row from a client that reads none of the answers; then it reads them all."""
    count = 5000
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        async with connect(harness.port, receive_bytes=4096) as client:
            client.send(request(CHAT, b""))
            assert (await client.response()).status == 400
            front = front_of(harness)
            narrow(front)
            client.send(request(CHAT, b"") * count)
            with anyio.fail_after(10):
                while not front.paused:
                    await anyio.sleep(0.001)
            for _ in range(2000):  # rounds of the loop, each enough for a request and its answer
                await anyio.lowlevel.checkpoint()
                assert front.transport.get_write_buffer_size() < 256 << 10
            for _ in range(count):
                assert (await client.response()).status == 400
                assert front.transport.get_write_buffer_size() < 256 << 10
        assert peers.calls == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_never_reads_is_cut(stream: bool) -> None:
    """After the idle time-out both connections end, and the record says who was too slow."""
    resilience = Resilience(idle_timeout_s=0.3)
    async with (
        scripted() as peers,
        running(config_for(peers.urls, resilience=resilience)) as harness,
        connect(harness.port, receive_bytes=4096) as client,
    ):
        client.post(chat(stream=stream))
        call = await peers.call()
        call.send(SSE + chunked(EVENT) * EVENTS if stream else sized(EVENT * EVENTS))
        await call.left()
        (record,) = await harness.settled(1)
        assert (record["status"], record["disconnected"]) == (499, "streaming")
        assert record["error"] == "the client did not read for too long"
        assert len(await client.rest()) < EVENTS * len(EVENT)


async def test_a_client_that_never_reads_its_last_bytes() -> None:
    """The answer is complete and the client does not fetch it: its connection does not stay for ever."""
    resilience = Resilience(idle_timeout_s=0.3)
    async with (
        scripted() as peers,
        running(config_for(peers.urls, resilience=resilience)) as harness,
        connect(harness.port, receive_bytes=4096) as client,
    ):
        client.post(chat(), CHAT, "connection: close")
        call = await peers.call()
        await fill(harness, call)
        call.send(chunked(b"y" * (100 << 10)) + LAST)
        await harness.settled(1)
        with anyio.fail_after(10):
            while harness.gateway.public.server_state.connections:
                await anyio.sleep(0.005)
