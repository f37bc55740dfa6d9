"""Answers as they pass: never held back, framed in any way, and their connections used again."""

import socket

import pytest

from tests.http.exchanges import exchange
from tests.peers import DONE, LAST, SSE, WHOLE, chunked, scripted, sized, token
from tests.raw import CHAT, chat, connect, request
from tests.running import config_for, running

pytestmark = pytest.mark.anyio


async def test_events_are_never_held_back() -> None:
    """Each event reaches the client before the replica has sent the next one."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat(stream=True))
        call = await peers.call()
        call.send(SSE)
        for text in "abcdef":
            call.send(chunked(token(text)))
            if text == "a":
                assert (await client.head()).status == 200
            assert await client.chunk() == token(text)
        call.send(chunked(token("", "stop") + DONE) + LAST)
        assert (await client.chunk(), await client.chunk()) == (token("", "stop") + DONE, b"")


async def test_a_whole_answer_is_not_held_back_either() -> None:
    """What there is of a body goes on as it comes."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat())
        call = await peers.call()
        call.send(sized(b"0123456789")[:-5])
        assert (await client.head()).status == 200
        assert await client.exactly(5) == b"01234"
        call.send(b"56789")
        assert await client.exactly(5) == b"56789"


async def test_a_body_without_a_length() -> None:
    """Ended by the replica's close, or chunked: the client gets it whole, in chunks, and keeps its connection."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat())
        call = await peers.call()
        call.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}")
        call.close()
        assert ((response := await client.response()).body, response.complete) == (b"{}", True)
        client.post(chat())
        call = await peers.call()
        call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"{", b"}") + LAST)
        assert ((response := await client.response()).body, response.complete) == (b"{}", True)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["plain", "uvloop"])
async def test_no_delay_on_both_sides() -> None:
    """Nagle's algorithm would hold small events back: it is off on the client's and on the replica's connection."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat())
        call = await peers.call()
        fronts = list(harness.gateway.public.server_state.connections)
        call.send(sized(b"{}"))
        await client.response()
        (front,) = fronts
        (replica,) = (view.replica for view in harness.gateway.board.current.replicas)
        upstream = harness.gateway.pool.take(replica)
        assert upstream is not None
        for transport in (front.transport, upstream.transport):  # type: ignore[union-attr]
            sock = transport.get_extra_info("socket")  # type: ignore[union-attr]
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        upstream.abort()


async def test_one_connection_carries_many_requests() -> None:
    """On both sides: keep-alive towards the client, and a pooled connection to the replica."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        wires = set()
        for _ in range(5):
            client.post(chat(stream=True))
            call = await peers.call()
            wires.add(call.connection)
            call.send(WHOLE)
            assert (await client.response()).complete
        assert len(wires) == 1


async def test_a_connection_that_the_replica_will_close_is_not_used_again() -> None:
    """`Connection: close` and HTTP/1.0 answers: the next request has a connection of its own."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        wires = set()
        for answer in (sized(b"{}", b"200 OK", b"Connection: close"), sized(b"{}").replace(b"1.1", b"1.0", 1), WHOLE):
            client.post(chat(stream=answer is WHOLE))
            call = await peers.call()
            wires.add(call.connection)
            call.send(answer)
            assert (await client.response()).complete
        assert len(wires) == 3


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_that_has_no_body(status: bytes) -> None:
    """It is passed on without a framing that would be taken for the beginning of the next answer."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat())
        (await peers.call()).send(b"HTTP/1.1 %b\r\n\r\n" % status)
        assert (head := await client.head()).status == int(status[:3])
        assert head.header("transfer-encoding") is None
        client.post(chat())
        (await peers.call()).send(sized(b"{}"))
        assert (await client.response()).body == b"{}"


async def test_a_second_answer_that_nobody_asked_for() -> None:
    """It reaches nobody, neither by this answer's headers or body nor by the next one's."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        for first in (sized(b"{}"), WHOLE):
            client.post(chat(stream=first is WHOLE))
            call = await peers.call()
            call.send(first + sized(b"forged", b"200 OK", b"x-forged: 1"))
            response = await client.response()
            assert response.complete
            assert b"forged" not in response.body
            assert response.header("x-forged") is None
            client.post(chat())
            (await peers.call()).send(sized(b"good"))
            assert (await client.response()).body == b"good"


async def test_early_hints_are_skipped() -> None:
    """100 and 103 before the answer: the client gets the answer alone."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
        _, response = await exchange(harness, peers, request(CHAT, chat()), hints + sized(b"{}"))
        assert (response.status, response.body, response.header("link")) == (200, b"{}", None)


async def test_the_replicas_own_4xx_passes_untouched() -> None:
    """In its own shape, with its own headers, and without another attempt."""
    async with scripted(2) as peers, running(config_for(peers.urls)) as harness:
        body = b'{"error":{"message":"too long","type":"BadRequestError","param":"input_tokens","code":400}}'
        for status in (b"400 Bad Request", b"404 Not Found", b"422 Unprocessable Entity"):
            answer = sized(body, status, b"retry-after: 7")
            _, response = await exchange(harness, peers, request(CHAT, chat(stream=True)), answer)
            assert (response.status, response.body) == (int(status[:3]), body)
            assert response.header("retry-after") == "7"
            assert response.header("x-gateway-attempts") is None
        assert [record["status"] for record in await harness.settled(3)] == [400, 404, 422]
