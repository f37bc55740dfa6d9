"""What a gateway must not choke on: every case on a real socket, with the emulated fleet or a scripted peer behind."""

import contextlib
import json
from collections.abc import AsyncIterator

import anyio
import pytest

from tests.peers import Peers, scripted, sized
from tests.raw import CHAT, Client, chat, connect, request
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

GOOD = request(CHAT, chat())
ANSWER = sized(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}')


@contextlib.asynccontextmanager
async def fronted(**server: object) -> AsyncIterator[tuple[Running, Peers]]:
    """A gateway before one peer that answers every POST."""
    async with scripted() as peers, running(config_for(peers.urls, **server)) as harness:
        peers.answer = lambda call: call.send(ANSWER)
        yield harness, peers


async def refused(client: Client, raw: bytes, status: int) -> dict[str, object]:
    """The error that these bytes are answered with, after which the connection ends in order."""
    await client.send_all(raw)
    response = await client.response()
    assert response.status == status, response.body
    assert await client.ended()
    assert not client.was_reset
    return response.error


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n"
MALFORMED = {
    "two lengths": HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\n{}}",
    "one length twice": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "a length that is a list": HEAD + b"content-length: 2, 2\r\n\r\n{}",
    "a signed length": HEAD + b"content-length: +2\r\n\r\n{}",
    "length and coding": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "coding and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "another coding": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a folded header": HEAD + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
    "a bare LF": HEAD + b"x: a\ny: b\r\ncontent-length: 2\r\n\r\n{}",
    "bare LFs throughout": HEAD.replace(b"\r\n", b"\n") + b"content-length: 2\n\n{}",
    "NUL": HEAD + b"x: a\0b\r\ncontent-length: 2\r\n\r\n{}",
    "NUL, and no end": HEAD + b"x: a\0b",
    "a space before the colon": HEAD + b"content-length : 2\r\n\r\n{}",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
    "a broken chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than told": HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_requests_stop_at_the_gateway(raw: bytes) -> None:
    """400 in OpenAI's shape, the connection closes, and nothing reaches a replica."""
    async with fronted() as (harness, peers), connect(harness.port) as client:
        await refused(client, raw, 400)
        assert peers.calls == []
        (record,) = await harness.settled(1)
        assert record["status"] == 400


BODIES = {
    "not JSON": (b"hello", None),
    "empty": (b"", None),
    "half a JSON": (b'{"model": "emulated", "messages": [', None),
    "not an object": (b"[1, 2]", None),
    "nested 100,000 deep": (b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "messages[0]"),
    "unknown field nested 100,000 deep": (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "messages": []}', None),
    "broken UTF-8": (b'{"model": "\xff\xfe", "messages": []}', None),
    "messages of the wrong type": (b'{"messages": "hello"}', "messages"),
    "no messages": (b'{"model": "emulated"}', "messages"),
    "a message of the wrong type": (b'{"messages": ["hello"]}', "messages[0]"),
    "model of the wrong type": (b'{"model": 7, "messages": []}', "model"),
    "stream of the wrong type": (b'{"stream": [], "messages": []}', "stream"),
}


@pytest.mark.parametrize(("body", "param"), BODIES.values(), ids=BODIES.keys())
async def test_bad_bodies_are_named_and_cost_only_themselves(body: bytes, param: str | None) -> None:
    """400 with the field to blame; nothing reaches a replica, and the connection serves the next request."""
    async with fronted() as (harness, peers), connect(harness.port) as client:
        response = await client.ask(body)
        assert (response.status, response.error["param"]) == (400, param)
        assert peers.calls == []
        assert (await client.ask(chat())).status == 200


async def test_a_body_over_the_limit_is_refused_by_its_length() -> None:
    """413 before the upload; the client gets to read it although it is still sending."""
    async with fronted(max_body_bytes=1000) as (harness, peers), connect(harness.port) as client:
        error = await refused(client, request(CHAT, b"x" * 5_000_000), 413)
        assert "server.max_body_bytes is 1000" in str(error["message"])
        assert peers.calls == []


async def test_a_body_over_the_limit_is_refused_by_its_chunks() -> None:
    """413 as soon as more has come than is allowed, whatever was promised."""
    chunks = b"".join(b"400\r\n" + b"x" * 1024 + b"\r\n" for _ in range(64))
    async with fronted(max_body_bytes=1000) as (harness, peers), connect(harness.port) as client:
        await refused(client, HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks, 413)
        assert peers.calls == []


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""], ids=["complete", "endless"])
async def test_headers_over_the_limit_are_refused(end: bytes) -> None:
    """100 KB of headers: 431."""
    async with fronted() as (harness, peers), connect(harness.port) as client:
        await refused(client, HEAD + b"x: " + b"y" * 100_000 + end, 431)
        assert peers.calls == []


STALLED = {
    "in the head": HEAD,
    "before the body": HEAD + b"content-length: 10\r\n\r\n",
    "in the body": HEAD + b"content-length: 10\r\n\r\n{",
    "in a chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n{",
}


@pytest.mark.parametrize("raw", STALLED.values(), ids=STALLED.keys())
async def test_an_upload_that_stalls_is_ended(raw: bytes) -> None:
    """408 when the request is not there in time."""
    async with fronted(request_read_timeout_s=0.1) as (harness, peers), connect(harness.port) as client:
        await refused(client, raw, 408)
        assert peers.calls == []


async def test_an_expectation_is_met() -> None:
    """`Expect: 100-continue` is answered when the body is wanted, and does not reach the replica."""
    async with fronted() as (harness, peers), connect(harness.port) as client:
        head, _, body = request(CHAT, chat(), "expect: 100-continue").partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        assert (await client.response()).status == 200
        assert peers.calls[0].header(b"expect") == []


async def test_an_unknown_expectation_is_refused() -> None:
    """417, as nobody can promise what it does not know."""
    async with fronted() as (harness, peers), connect(harness.port) as client:
        await refused(client, request(CHAT, chat(), "expect: the-unexpected"), 417)
        assert peers.calls == []


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_chunked_body_reaches_the_replica_whole(size: int) -> None:
    """Whatever its chunks were, the replica gets the bytes with a length."""
    body = json.dumps(chat("x" * 300)).encode()
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    raw = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    raw += b"".join(b"%x;extension=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\ntrailer: 1\r\n\r\n"
    async with fronted() as (harness, peers), connect(harness.port) as client:
        client.send(raw)
        assert (await client.response()).status == 200
        (call,) = peers.calls
        assert call.body == body
        assert call.header(b"content-length") == [str(len(body)).encode()]
        assert call.header(b"transfer-encoding") == call.header(b"trailer") == []


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Three at once, one of them bad, the last not relayed: three answers, in order."""
    raw = GOOD + request(CHAT, b"no JSON") + GOOD + b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n"
    async with fronted() as (harness, peers), connect(harness.port) as client:
        client.send(raw)
        assert [(await client.response()).status for _ in range(4)] == [200, 400, 200, 200]
        assert len(peers.calls) == 2


async def test_a_flood_of_pipelined_requests_is_answered() -> None:
    """More than is kept while a response runs waits in the socket, and loses nothing."""
    async with fronted() as (harness, peers), connect(harness.port) as client, anyio.create_task_group() as group:
        group.start_soon(client.send_all, request(CHAT, chat("x" * 2000)) * 200)
        assert [(await client.response()).status for _ in range(200)] == [200] * 200
        assert len(peers.calls) == 200


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "GET", "PUT"])
async def test_other_methods_of_a_relayed_path_are_answered_here(method: str) -> None:
    """HEAD and GET: 405 with `allow`; OPTIONS: 204. No replica is asked."""
    async with fronted() as (harness, peers), connect(harness.port) as client:
        client.send(f"{method} {CHAT} HTTP/1.1\r\nhost: g\r\n\r\n".encode())
        head = await client.head()
        assert head.status == (204 if method == "OPTIONS" else 405)
        assert "POST" in str(head.header("allow"))
        assert peers.calls == []


async def test_an_unknown_path_is_not_found() -> None:
    """404 in OpenAI's shape, with a body or without."""
    async with fronted() as (harness, peers), connect(harness.port) as client:
        response = await client.ask(chat(), "/v1/nothing")
        assert (response.status, response.error["code"]) == (404, "not_found")
        assert peers.calls == []


async def test_leading_empty_lines_are_ignored() -> None:
    """RFC 9112, 2.2: some clients send a line break after a body."""
    async with fronted() as (harness, _), connect(harness.port) as client:
        client.send(b"\r\n\r\n" + GOOD)
        assert (await client.response()).status == 200


async def test_a_request_in_single_bytes_is_a_request() -> None:
    """Where the reads end says nothing."""
    async with fronted() as (harness, peers), connect(harness.port) as client:
        for byte in GOOD:
            await client.send_all(bytes([byte]))
        assert (await client.response()).status == 200
        assert peers.calls[0].body == GOOD.partition(b"\r\n\r\n")[2]
