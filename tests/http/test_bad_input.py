"""What clients send by mistake or by malice: the answer can be read, and nothing of it reaches a replica."""

import json
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from tests.peers import LAST, WHOLE, Peers, scripted, sized
from tests.raw import CHAT, Client, Response, chat, connect, request
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BODY = json.dumps(chat()).encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)


@pytest.fixture(scope="module")
async def bench() -> AsyncIterator[tuple[Peers, Running]]:
    """One gateway with small limits for all tests of this file."""
    async with scripted() as peers:
        config = config_for(peers.urls, max_body_bytes=1 << 20, request_read_timeout_s=0.3)
        async with running(config) as harness:
            yield peers, harness


@pytest.fixture
def peers(bench: tuple[Peers, Running]) -> Peers:
    """The replica, as if it had never been asked."""
    peers, _ = bench
    peers.calls.clear()
    peers.answer = lambda call: call.send(sized(b"{}"))
    return peers


@pytest.fixture
async def harness(bench: tuple[Peers, Running], peers: Peers) -> AsyncIterator[Running]:
    """The gateway, which must answer a good request after whatever the test has done to it."""
    _, harness = bench
    yield harness
    peers.answer = lambda call: call.send(sized(b"{}"))
    async with connect(harness.port) as client:
        assert (await client.ask(chat())).body == b"{}"
    assert harness.gateway.books.total_in_flight() == 0


async def refused(harness: Running, raw: bytes) -> Response:
    """The answer to raw bytes, by which the connection ends in order."""
    async with connect(harness.port) as client:
        client.send(raw)
        response = await client.response()
        assert response.complete
        assert response.header("connection") == "close"
        assert await client.ended()
        assert not client.was_reset
        return response


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


# heads


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
        HEAD + LENGTH + b"content-length: 5\r\n\r\n" + BODY,
        HEAD + b"content-length: 5, 5\r\n\r\n" + BODY,
        HEAD + b"content-length: -1\r\n\r\n" + BODY,
        HEAD + b"content-length: +5\r\n\r\n" + BODY,
        HEAD + b"content-length: 0x5\r\n\r\n" + BODY,
        HEAD + b"content-length: \r\n\r\n" + BODY,
        HEAD + b"content-length: 99999999999999999999999\r\n\r\n" + BODY,
        HEAD + LENGTH + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        HEAD + LENGTH + b"x-folded: a\r\n b\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-folded: a\r\n\tb\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-bare: a\nx-next: b\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-bare: a\rx-next: b\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-nul: a\0b\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-\0nul: a\r\n\r\n" + BODY,
        HEAD + LENGTH + b"no colon\r\n\r\n" + BODY,
        HEAD + LENGTH + b": no name\r\n\r\n" + BODY,
        HEAD.replace(b"\r\n", b"\n") + b"\n",
        HEAD + LENGTH + b"x: y\n\n",
        b"POST /v1/chat/completions\r\n\r\n",
        b"POST /v1/chat/completions HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1 x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/2.0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/0.9\r\n\r\n",
        b"POST /v1/chat/completions?a b HTTP/1.1\r\n\r\n",
        b"P\xd6ST /v1/chat/completions HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda raw: repr(raw.removeprefix(HEAD).removeprefix(LENGTH))[2:50],
)
async def test_a_head_that_is_not_http(harness: Running, peers: Peers, raw: bytes) -> None:
    """400, by which the connection ends: where the next request would begin is anybody's guess."""
    response = await refused(harness, raw)
    assert (response.status, response.error["type"]) == (400, "invalid_request_error")
    assert peers.calls == []


@pytest.mark.parametrize("ended", [True, False])
async def test_a_hundred_kilobytes_of_headers(harness: Running, peers: Peers, ended: bool) -> None:
    """431, with or without the blank line having come."""
    lines = b"".join(b"x-%d: %b\r\n" % (number, b"y" * 1000) for number in range(100))
    response = await refused(harness, HEAD + LENGTH + lines + (b"\r\n" + BODY if ended else b""))
    assert (response.status, response.error["code"]) == (431, "headers_too_large")
    assert peers.calls == []


async def test_an_expectation_that_nobody_can_meet(harness: Running, peers: Peers) -> None:
    """417, and nothing reaches a replica."""
    response = await refused(harness, HEAD + LENGTH + b"expect: tea\r\n\r\n" + BODY)
    assert (response.status, response.error["code"]) == (417, "expectation_failed")
    assert peers.calls == []


# framing that is good


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


# too slow


@pytest.mark.parametrize(
    "start",
    [
        b"P",
        HEAD,
        HEAD + LENGTH + b"\r\n",
        HEAD + LENGTH + b"\r\n" + BODY[:-1],
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhe",
        HEAD + LENGTH + b"expect: 100-continue\r\n\r\n",
    ],
    ids=["a letter", "half a head", "no body", "half a body", "half a chunk", "continued"],
)
async def test_an_upload_that_stalls(harness: Running, peers: Peers, start: bytes) -> None:
    """408 after `request_read_timeout_s`."""
    async with connect(harness.port) as client:
        client.send(start)
        if b"expect" in start:
            await client.until(b"Continue\r\n\r\n")
        response = await client.response()
        assert (response.status, response.error["code"]) == (408, "upload_timeout")
        assert await client.ended()
    assert peers.calls == []
    assert (await harness.settled(1))[-1]["status"] == 408


async def dribble(client: Client, start: bytes, more: bytes) -> Response:
    """Send a little again and again, until there is an answer."""
    client.send(start)
    response: list[Response] = []

    async def read(scope: anyio.CancelScope) -> None:
        response.append(await client.response())
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(read, group.cancel_scope)
        while True:
            client.send(more)
            await anyio.sleep(0.01)
    return response[0]


@pytest.mark.parametrize(
    ("start", "more"),
    [(HEAD, b"x-slow: 1\r\n"), (HEAD + b"content-length: 100000\r\n\r\n", b"x"), (b"", b"\r\n")],
    ids=["head", "body", "empty lines"],
)
async def test_a_slowloris(harness: Running, peers: Peers, start: bytes, more: bytes) -> None:
    """A byte now and then does not keep a request alive: 408, which ends its connection."""
    async with connect(harness.port) as client:
        assert (await dribble(client, start, more)).status == 408
    assert peers.calls == []
