"""CORS: which answers a page of another origin may read, by the head that a browser gets."""

import pytest

from gateway.serving.cors import grant, granted
from tests.peers import SSE, WHOLE, chunked, scripted, sized, token
from tests.raw import CHAT, Response, chat, connect, request
from tests.running import config_for, running

pytestmark = pytest.mark.anyio

PAGE = "https://chat.example.com"
OWN = (b"Access-Control-Allow-Origin: *", b"access-control-allow-credentials: true")
"""What some engines say on their own."""


def allowed(response: Response) -> list[str]:
    return [value for name, value in response.headers if name == "access-control-allow-origin"]


@pytest.mark.parametrize(
    ("origins", "origin", "told"),
    [
        ({b"https://a.example"}, b"https://a.example", b"https://a.example"),
        ({b"https://a.example"}, b"https://b.example", None),
        ({b"https://a.example"}, b"", None),
        ({b"*"}, b"https://b.example", b"*"),
        ({b"*"}, b"", None),
        ({b"https://a.example", b"*"}, b"https://a.example", b"*"),
    ],
)
def test_who_is_let_in(origins: set[bytes], origin: bytes, told: bytes | None) -> None:
    """An origin that is listed is told back; the star lets all in; who names no origin is no page."""
    lines = grant(origins, origin)
    assert (lines == b"") == (told is None)
    if told is not None:
        assert b"access-control-allow-origin: %b\r\n" % told in lines
        assert (b"vary: Origin" in lines) == (told != b"*")


def test_only_the_head_is_changed() -> None:
    """A body that looks like a header, or a head, stays."""
    body = b"access-control-x: 1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    answer = granted(b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: x\r\na: b\r\n\r\n" + body, b"c: d\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\na: b\r\nc: d\r\n\r\n" + body
    assert granted(b"HTTP/1.1 200 OK\r\na: b\r\n\r\n", b"") == b"HTTP/1.1 200 OK\r\na: b\r\n\r\n"


@pytest.mark.parametrize(("origin", "told"), [(PAGE, [PAGE]), ("https://other.example.com", [])])
async def test_answers_of_replicas(origin: str, told: list[str]) -> None:
    """Streamed and not, on one connection: the gateway's word stands alone, and the replica sees no origin."""
    async with scripted() as peers, running(config_for(peers.urls, cors_origins=(PAGE,))) as harness:
        async with connect(harness.port) as client:
            for answer in (WHOLE, sized(b"{}", b"200 OK", *OWN), sized(b"{}", b"400 Bad Request", *OWN)):
                client.send(request(CHAT, chat(stream=answer is WHOLE), f"Origin: {origin}"))
                call = await peers.call()
                assert call.header(b"origin") == []
                call.send(answer)
                response = await client.response()
                assert response.complete
                assert allowed(response) == told
                assert response.header("access-control-allow-credentials") is None
        await harness.settled(3)


async def test_a_stream_that_breaks() -> None:
    """The error event can be read: the head came with the first token, once."""
    async with scripted() as peers, running(config_for(peers.urls, cors_origins=("*",))) as harness:
        async with connect(harness.port) as client:
            client.send(request(CHAT, chat(stream=True), f"Origin: {PAGE}"))
            call = await peers.call()
            call.send(SSE + chunked(token("a")))
            head = await client.head()
            assert allowed(head) == ["*"]
            call.reset()
            rest = await client.rest()
            assert b"replica_failed" in rest
            assert b"access-control" not in rest
        await harness.settled(1)


@pytest.mark.parametrize("body", [{"model": "none", "messages": []}, b"{", b" " * 2000])
async def test_errors_of_the_gateway(body: bytes | dict[str, object]) -> None:
    """A page reads why: an unknown model, a body that is not JSON, and one that is too large to be read."""
    async with (
        scripted() as peers,
        running(config_for(peers.urls, cors_origins=(PAGE,), max_body_bytes=1000)) as harness,
        connect(harness.port) as client,
    ):
        response = await client.ask(body, CHAT, f"Origin: {PAGE}")
        assert response.status in (400, 404, 413)
        assert response.error["message"]
        assert allowed(response) == [PAGE]


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/nowhere"])
@pytest.mark.parametrize(("origin", "status", "told"), [(PAGE, 200, [PAGE]), ("https://other.example.com", 400, [])])
async def test_preflights(path: str, origin: str, status: int, told: list[str]) -> None:
    """A browser asks first whether it may POST JSON with a key; no replica hears of it."""
    async with scripted() as peers, running(config_for(peers.urls, cors_origins=(PAGE,))) as harness:
        lines = (
            f"Origin: {origin}",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization, content-type, x-stainless-lang",
        )
        async with connect(harness.port) as client:
            client.send(request(path, b"", *lines, method="OPTIONS"))
            response = await client.response()
        assert (response.status, allowed(response)) == (status, told)
        if told:
            assert "POST" in (response.header("access-control-allow-methods") or "")
            assert "x-stainless-lang" in (response.header("access-control-allow-headers") or "")
            assert response.header("access-control-max-age") == "7200"
        assert peers.calls == []


@pytest.mark.parametrize("path", ["/v1/models", "/nowhere"])
async def test_answers_of_cold_paths(path: str) -> None:
    """The list of models, and what is not found."""
    config = config_for([], cors_origins=(PAGE,))
    async with running(config) as harness, connect(harness.port) as client:
        client.send(request(path, b"", f"Origin: {PAGE}", method="GET"))
        assert allowed(await client.response()) == [PAGE]


async def test_no_origin_is_let_in_by_default() -> None:
    """No page gets in, not by the replica's word either: vLLM lets in every origin that it is told of."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.send(request(CHAT, chat(), f"Origin: {PAGE}"))
        call = await peers.call()
        assert call.header(b"origin") == []
        call.send(sized(b"{}"))
        assert allowed(await client.response()) == []
        client.send(request(CHAT, b"", f"Origin: {PAGE}", "Access-Control-Request-Method: POST", method="OPTIONS"))
        preflight = await client.response()
        assert (preflight.status, allowed(preflight)) == (204, [])
