"""What clients send by mistake or by malice: the answer can be read, and nothing of it reaches a replica."""

import pytest

from tests.http.strict import HEAD, refused
from tests.peers import LAST, Peers
from tests.raw import CHAT, chat, connect
from tests.running import Running

pytestmark = pytest.mark.anyio


# bodies


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"not json", None),
        (b'{"messages":[', None),
        (b"[]", None),
        (b"null", None),
        (b"\xff\xfe{}", None),
        (b'{"messages":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b"{}", "messages"),
        (b'{"messages":"hello"}', "messages"),
        (b'{"messages":{"role":"user"}}', "messages"),
        (b'{"messages":[{"role":"user"},7]}', "messages[1]"),
        (b'{"messages":[{"content":"x"}]}', "messages[0].role"),
        (b'{"messages":[{"role":5}]}', "messages[0].role"),
        (b'{"messages":[],"model":5}', "model"),
        (b'{"messages":[],"stream":"yes"}', "stream"),
        (b'{"messages":[],"stream_options":[]}', "stream_options"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_body_that_is_not_a_chat(harness: Running, peers: Peers, body: bytes, param: str | None) -> None:
    """400 that names the field; the connection lives on for the next request."""
    async with connect(harness.port) as client:
        response = await client.ask(body)
        assert (response.status, response.error["param"]) == (400, param)
        assert response.error["type"] == "invalid_request_error"
        assert peers.calls == []
        assert (await client.ask(chat())).body == b"{}"


async def test_a_form_that_is_none(harness: Running, peers: Peers) -> None:
    """400 for audio without a boundary, or cut in the middle of a part."""
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=a"):
        async with connect(harness.port) as client:
            response = await client.ask(b"--a\r\n\r\nx", "/v1/audio/transcriptions", f"content-type: {kind}")
            assert (response.status, response.error["code"]) == (400, None)
    assert peers.calls == []


@pytest.mark.parametrize("size", [(1 << 20) + 1, 1 << 40])
async def test_a_body_too_large_by_its_own_account(harness: Running, peers: Peers, size: int) -> None:
    """413 at once, before a byte of it has come."""
    response = await refused(harness, HEAD + b"content-length: %d\r\n\r\n" % size)
    assert (response.status, response.error["code"]) == (413, "body_too_large")
    assert peers.calls == []


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_too_large_is_refused_while_it_is_sent(harness: Running, peers: Peers, framing: str) -> None:
    """413 that can be read, not a reset, although the client is still uploading and only then looks."""
    size = 16 << 20
    piece = b"x" * (1 << 16)
    async with connect(harness.port) as client:
        if framing == "length":
            client.send(HEAD + b"content-length: %d\r\n\r\n" % size)
        else:
            client.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(size // len(piece)):
            await client.send_all(piece if framing == "length" else b"10000\r\n" + piece + b"\r\n")
        response = await client.response()
        assert (response.status, response.error["code"]) == (413, "body_too_large")
        assert not client.was_reset
        assert await client.ended()
    assert peers.calls == []


async def test_the_largest_body_that_is_allowed(harness: Running, peers: Peers) -> None:
    """Exactly `max_body_bytes`, sized or chunked, arrives whole."""
    body = b'{"messages":[],"x":"' + b"y" * ((1 << 20) - 22) + b'"}'
    async with connect(harness.port) as client:
        assert (await client.ask(body)).status == 200
        client.send(HEAD + b"transfer-encoding: chunked\r\n\r\n100000\r\n" + body + b"\r\n0\r\n\r\n")
        assert (await client.response()).status == 200
    assert [call.body == body for call in peers.calls] == [True, True]


# paths and methods


@pytest.mark.parametrize(
    ("start", "status", "code"),
    [
        ("GET /nowhere", 404, "not_found"),
        ("POST /nowhere", 404, "not_found"),
        ("POST /v1/chat/completions/", 404, "not_found"),
        ("POST //v1/chat/completions", 404, "not_found"),
        ("GET /v1/chat/completions", 405, "method_not_allowed"),
        ("PUT /v1/embeddings", 405, "method_not_allowed"),
        ("DELETE /healthz", 405, "method_not_allowed"),
        ("GET /v1/models/nope", 404, "model_not_found"),
        ("POST http://x/nowhere", 404, "not_found"),
        ("GET http://x/v1/chat/completions", 405, "method_not_allowed"),
    ],
)
async def test_a_path_or_method_that_is_not_there(
    harness: Running, peers: Peers, start: str, status: int, code: str
) -> None:
    """OpenAI's error object, whoever found out."""
    response = await refused(harness, f"{start} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert (response.status, response.error["code"]) == (status, code)
    assert peers.calls == []


@pytest.mark.parametrize("path", ["/nowhere", "/v1/models", "/v1/chat/completion"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_an_upload_to_a_path_that_takes_none(harness: Running, peers: Peers, path: str, framing: str) -> None:
    """A misspelt path with a large body: the client can read that it is not there, once it has sent all of it."""
    size = 15 << 16
    piece = b"x" * (1 << 16)
    start = b"POST %b HTTP/1.1\r\nhost: x\r\n" % path.encode()
    async with connect(harness.port) as client:
        if framing == "length":
            client.send(start + b"content-length: %d\r\n\r\n" % size)
        else:
            client.send(start + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(size // len(piece)):
            await client.send_all(piece if framing == "length" else b"10000\r\n" + piece + b"\r\n")
        client.send(LAST if framing == "chunks" else b"")
        response = await client.response()
        assert response.status in (404, 405)
        assert not client.was_reset
    assert peers.calls == []


@pytest.mark.parametrize("start", [b"content-length: 9\r\n\r\nx", b"transfer-encoding: chunked\r\n\r\n5\r\nhe"])
@pytest.mark.parametrize("path", [b"/nowhere", b"/v1/models"])
async def test_an_upload_to_such_a_path_that_stalls(harness: Running, peers: Peers, path: bytes, start: bytes) -> None:
    """408 after `request_read_timeout_s`, as on a path that is relayed; it once waited 5 s, whatever was configured."""
    response = await refused(harness, b"POST %b HTTP/1.1\r\nhost: x\r\n%b" % (path, start))
    assert (response.status, response.error["code"]) == (408, "upload_timeout")
    assert peers.calls == []


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/v1/chat/completions", "/nowhere"])
async def test_head_and_options(harness: Running, peers: Peers, path: str) -> None:
    """HEAD has no body; OPTIONS tells what is allowed."""
    for method in ("HEAD", "OPTIONS"):
        async with connect(harness.port) as client:
            client.send(f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            head = await (client.head() if method == "HEAD" else client.response())
            assert await client.ended()
            if method == "OPTIONS":
                assert head.status == (404 if path == "/nowhere" else 204)
                assert path == "/nowhere" or "OPTIONS" in (head.header("allow") or "")
            else:
                assert head.status == {"/nowhere": 404, CHAT: 405}.get(path, 200)
    assert peers.calls == []
