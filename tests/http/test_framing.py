"""Framing that is good, in odd pieces, and requests one behind the other."""

import json

import anyio
import anyio.lowlevel
import pytest

from tests.http.strict import BODY, HEAD, LENGTH, refused
from tests.peers import WHOLE, Peers, sized
from tests.raw import CHAT, chat, connect, request
from tests.running import Running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("framing", [LENGTH, b"transfer-encoding: chunked\r\n"])
async def test_expect_100_continue(harness: Running, peers: Peers, framing: bytes) -> None:
    """The body is asked for, comes, and arrives."""
    async with connect(harness.port) as client:
        client.send(HEAD + framing + b"Expect: 100-Continue\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(BODY if framing is LENGTH else b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert (await client.response()).status == 200
    (call,) = peers.calls
    assert (call.body, call.header(b"expect")) == (BODY, [])


async def test_a_body_is_not_asked_for_when_it_would_be_refused(harness: Running, peers: Peers) -> None:
    """413 in place of 100 Continue."""
    response = await refused(harness, HEAD + b"content-length: 9999999\r\nexpect: 100-continue\r\n\r\n")
    assert response.status == 413
    assert peers.calls == []


@pytest.mark.parametrize("step", [1, 7, 100, 10_000])
@pytest.mark.parametrize("chunk", [1, 3, 50, 10_000])
async def test_a_chunked_body(harness: Running, peers: Peers, chunk: int, step: int) -> None:
    """However it is cut into chunks, and these into packets: the replica gets it in one piece, with its length."""
    pieces = [BODY[at : at + chunk] for at in range(0, len(BODY), chunk)]
    body = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nx-trailer: 1\r\n\r\n"
    raw = HEAD + b"Transfer-Encoding: Chunked\r\n\r\n" + body
    async with connect(harness.port) as client:
        for at in range(0, len(raw), step):
            await client.send_all(raw[at : at + step])
            await anyio.lowlevel.checkpoint()
        assert (await client.response()).body == b"{}"
        assert (await client.ask(chat("again"))).body == b"{}"
    assert peers.calls[0].body == BODY
    assert peers.calls[0].header(b"content-length") == [b"%d" % len(BODY)]
    assert peers.calls[0].header(b"transfer-encoding") == peers.calls[0].header(b"x-trailer") == []


@pytest.mark.parametrize("bad", [b"zz\r\n", b"-1\r\n", b"5\r\nhello!\r\n", b"5 \r\nhello\r\n", b"5\nhello\n", b"\r\n"])
async def test_a_malformed_chunk(harness: Running, peers: Peers, bad: bytes) -> None:
    """400, and nothing reaches a replica."""
    response = await refused(harness, HEAD + b"transfer-encoding: chunked\r\n\r\n" + bad)
    assert response.status == 400
    assert peers.calls == []


async def test_a_request_byte_by_byte(harness: Running, peers: Peers) -> None:
    """Every cut of a request into packets is the same request."""
    raw = HEAD + LENGTH + b"\r\n" + BODY
    async with connect(harness.port) as client:
        for at in range(len(raw)):
            await client.send_all(raw[at : at + 1])
            await anyio.lowlevel.checkpoint()
        assert (await client.response()).body == b"{}"
    assert peers.calls[0].body == BODY


@pytest.mark.parametrize("host", ["x", "other.example:8080", "[::1]:80", "user@x"])
async def test_a_target_in_absolute_form(harness: Running, peers: Peers, host: str) -> None:
    """As clients send it to a proxy, and every server must take it (RFC 9112, 3.2.2): once 405. The path is served."""
    async with connect(harness.port) as client:
        client.send(request(f"http://{host}{CHAT}?a=b", chat()) + request(f"HTTPS://{host}{CHAT}", chat()))
        assert [(await client.response()).body for _ in range(2)] == [b"{}", b"{}"]
        client.send(f"GET http://{host}/v1/models HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert json.loads((await client.response()).body)["object"] == "list"
    assert [call.target for call in peers.calls] == [CHAT.encode() + b"?a=b", CHAT.encode()]


async def test_a_target_in_absolute_form_without_a_path(harness: Running, peers: Peers) -> None:
    """It is the root's."""
    response = await refused(harness, b"GET http://x HTTP/1.1\r\nhost: x\r\n\r\n")
    assert json.loads(response.body)["api"] == "/v1"


async def test_empty_lines_before_a_request(harness: Running, peers: Peers) -> None:
    """They are ignored, also between two requests: some clients send one after a body."""
    async with connect(harness.port) as client:
        client.send(b"\r\n\r\n" + request(CHAT, chat()) + b"\r\n" + request(CHAT, chat()))
        assert [(await client.response()).status for _ in range(2)] == [200, 200]


# one behind the other


async def test_pipelined_requests_are_answered_in_order(harness: Running, peers: Peers) -> None:
    """Twenty requests in one write, good and bad ones: their answers come in their order."""
    peers.answer = lambda call: call.send(sized(call.header(b"x-request-id")[0]))
    async with connect(harness.port) as client:
        client.send(
            b"".join(
                request(CHAT, chat() if number % 3 else b"nonsense", f"x-request-id: n{number}") for number in range(20)
            )
        )
        for number in range(20):
            response = await client.response()
            assert (response.status, response.header("x-request-id")) == (200 if number % 3 else 400, f"n{number}")
            assert not number % 3 or response.body == b"n%d" % number


async def test_a_hot_request_and_a_cold_one(harness: Running, peers: Peers) -> None:
    """A POST that is relayed and a GET behind it, in one write: both are answered, in order."""
    peers.answer = lambda call: call.send(WHOLE)
    async with connect(harness.port) as client:
        client.send(request(CHAT, chat(stream=True)) + b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        first, second = await client.response(), await client.response()
        assert first.body.endswith(b"data: [DONE]\n\n")
        assert json.loads(second.body)["object"] == "list"
        assert await client.ended()


async def test_a_cold_request_and_a_hot_one(harness: Running, peers: Peers) -> None:
    """The cold answer says that it is the connection's last: what came behind it is not served half."""
    response = await refused(harness, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + request(CHAT, chat()))
    assert response.status == 200
    assert peers.calls == []


async def test_much_more_than_is_held(harness: Running, peers: Peers) -> None:
    """Two megabytes of requests behind a running one: all are answered, in order, and no more is read than allowed."""
    count = 20
    filler = "x" * 100_000
    async with connect(harness.port) as client:
        for number in range(count):
            client.post(chat(f"{number} {filler}"), CHAT, f"x-request-id: n{number}")
        for number in range(count):
            response = await client.response()
            assert (response.status, response.header("x-request-id")) == (200, f"n{number}")
    assert [len(call.body) > 100_000 for call in peers.calls] == [True] * count
