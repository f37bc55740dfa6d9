"""HTTP/1.1 as a client can test it."""

import json

import pytest

from gateway.emulator.fleet import Fleet
from tests.emulator.peer import chat, connect

pytestmark = pytest.mark.anyio
GET = b"GET /health HTTP/1.1\r\nHost: r\r\n\r\n"


async def test_keep_alive_and_pipelining(fleet: Fleet) -> None:
    """Requests sent together are answered in order on one connection."""
    async with connect(fleet.replica(0)) as peer:
        peer.send(GET + b"GET /version HTTP/1.1\r\nHost: r\r\n\r\n" + GET)
        assert b"0.32.0" in await peer.until(b"0.32.0")
        assert (await peer.until(b"\r\n\r\n")).startswith(b'"}HTTP/1.1 200')
        assert fleet.replica(0).connections == 1


async def test_a_request_in_single_bytes(fleet: Fleet) -> None:
    """Any cutting of the bytes gives the same request, raw head included."""
    async with connect(fleet.replica(0)) as peer:
        body = json.dumps(chat("x", max_tokens=1)).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: r\r\nContent-Type: application/json\r\n"
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
        whole = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + GET
        for at in range(len(whole)):
            peer.send(whole[at : at + 1])
            await peer.writer.drain()
        await peer.until(b"}}")
    assert fleet.replica(0).last.body == body
    assert fleet.replica(0).last.head == whole[: whole.index(b"\r\n\r\n") + 4]


async def test_chunked_bodies_with_blank_lines_and_a_successor(fleet: Fleet) -> None:
    """A blank line inside a chunk is not its end, and the next request's head is recorded apart."""
    body = json.dumps(chat("a\r\n\r\nb", max_tokens=1), indent=None).encode().replace(b"{", b"{\r\n\r\n", 1)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    one = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with connect(fleet.replica(0)) as peer:
        peer.send(one + one)
        await peer.until(b"}}")
        await peer.until(b"}}")
    assert [(r.head, r.body) for r in fleet.replica(0).recent] == [(head, body)] * 2


async def test_expect_100_continue(fleet: Fleet) -> None:
    """The go-ahead comes before the body."""
    async with connect(fleet.replica(0)) as peer:
        body = b'{"prompt":"x","max_tokens":1}'
        lines = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        peer.send(lines + b"Content-Length: %d\r\n\r\n" % len(body))
        assert await peer.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(body)
        assert (await peer.until(b"\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("raw", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_what_is_no_http_gets_400_and_a_close(fleet: Fleet, raw: bytes) -> None:
    """uvicorn's text."""
    async with connect(fleet.replica(0)) as peer:
        peer.send(raw)
        got = await peer.rest()
        assert got.startswith(b"HTTP/1.1 400")
        assert got.endswith(b"Invalid HTTP request received.")


async def test_connection_close_is_honoured(fleet: Fleet) -> None:
    """Also for HTTP/1.0, whose streams are not chunked and end with the connection."""
    async with connect(fleet.replica(0)) as peer:
        peer.send(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert (await peer.rest()).startswith(b"HTTP/1.1 200")
    body = json.dumps(chat("x", max_tokens=2, stream=True)).encode()
    async with connect(fleet.replica(0)) as peer:
        lines = b"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
        peer.send(lines + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        got = await peer.rest()
        assert b"transfer-encoding" not in got
        assert got.endswith(b"data: [DONE]\n\n")


async def test_idle_connections_are_closed() -> None:
    """After an answer, when no request follows in time; one that never sent anything stays open."""
    async with Fleet(1, idle_s=0.01) as fleet, connect(fleet.replica(0)) as silent:
        async with connect(fleet.replica(0)) as peer:
            peer.send(GET)
            await peer.until(b"\r\n\r\n")
            assert await peer.rest() == b""
        assert fleet.replica(0).connections == 1
        silent.send(GET)
        await silent.until(b"\r\n\r\n")


async def test_head_requests_get_no_body(fleet: Fleet) -> None:
    """A 405 as from FastAPI, whose body would be taken for the next answer."""
    async with connect(fleet.replica(0)) as peer:
        peer.send(b"HEAD /health HTTP/1.1\r\n\r\n" + GET)
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 405")
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
