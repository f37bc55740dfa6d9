"""The relay over real sockets: what a replica is sent, and what a client gets."""

import json
import socket

import anyio
import msgspec
import openai
import pytest

from gateway.config import ReplicaConfig
from gateway.core.endpoints import RELAYED, Shape
from gateway.emulator.fleet import Fleet
from tests.peers import DONE, LAST, SSE, WHOLE, Call, Peers, chunked, scripted, sized, token
from tests.raw import CHAT, Response, chat, connect, request
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

FORM = "content-type: multipart/form-data; boundary=XyZ"
BODIES = {
    Shape.CHAT: b'{ "model":"emulated", "messages":[{"role":"user","content":"h\xc3\xa9 \\u00e9"}],\n "n":1%b }',
    Shape.MESSAGE: b'{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]%b}',
    Shape.RESPONSE: b'{"input":"hello"%b}',
    Shape.COMPLETION: b'{"prompt":[1, 2,3]%b}',
    Shape.EMBEDDING: b'{"input":["h\xc3\xa9", "x"]%b}',
    Shape.SCORE: b'{"query":"x", "documents":["a","b"]%b}',
    Shape.PLAIN: b'{"anything":[1.50, -0, 1e5]%b}',
}
EVENTS = {
    Shape.MESSAGE: (b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta",'
                    b'"text":"x"}}\n\n', b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    Shape.RESPONSE: (b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n',
                     b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n'),
}  # fmt: skip
CHUNKS = (token("a"), b": a comment\n\n", token("b", "stop"), DONE)
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}\n\n'


def form(stream: bool = False) -> bytes:
    fields = b'--XyZ\r\nContent-Disposition: form-data; name="stream"\r\n\r\n%b\r\n' % str(stream).lower().encode()
    return (
        b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\0\xff\r\n\r\n\r\n--XyZ\r\n'
        b'Content-Disposition: form-data; name="model"\r\n\r\nemulated\r\n' + fields + b"--XyZ--\r\n"
    )


async def exchange(harness: Running, peers: Peers, raw: bytes, answer: bytes) -> tuple[Call, Response]:
    """One request and its answer, seen from both ends."""
    async with connect(harness.port) as client:
        client.send(raw)
        call = await peers.call()
        call.send(answer)
        return call, await client.response()


async def test_a_streamed_chat_arrives_whole() -> None:
    """The SDK's stream gives the text that the replica gives without a gateway."""
    async with Fleet(2, speed=20) as fleet, running(config_for(fleet.urls)) as harness:
        ask = {"model": "emulated", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20}
        texts = []
        for base in (harness.url, fleet.urls[0]):
            async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="unused") as client:
                stream = await client.chat.completions.create(stream=True, **ask)
                texts.append("".join([chunk.choices[0].delta.content or "" async for chunk in stream]))
        assert texts[0] == texts[1] != ""
        (record,) = await harness.settled(1)
        assert record["completion_tokens"] == 20


async def test_every_path_relays_both_bodies_untouched() -> None:
    """Whole answers: the replica receives the bytes that were sent, the client those that were answered."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        answer = b'{"usage":{"prompt_tokens":3},"x":"\xc3\xa9\\u00e9" , "y":1.0}'
        for path, endpoint in RELAYED.items():
            sound = endpoint.shape is Shape.FORM
            body = form() if sound else BODIES[endpoint.shape] % b""
            lines = (FORM,) if sound else ()
            raw = request(path.decode() + "?a=b%20c", body, *lines)
            call, response = await exchange(harness, peers, raw, sized(answer))
            assert (call.target, call.body) == (path + b"?a=b%20c", body)
            assert (response.status, response.body, response.complete) == (200, answer, True)
            assert response.header("content-length") == str(len(answer))
        records = await harness.settled(len(RELAYED))
        assert [record["path"] for record in records] == [path.decode() for path in RELAYED]
        assert {record["prompt_tokens"] for record in records} == {3}


async def test_every_path_relays_streams_untouched() -> None:
    """Streams: the same events, byte for byte, on every path; the connection lives on."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        for path, endpoint in RELAYED.items():
            sound = endpoint.shape is Shape.FORM
            asks = b',"stream":true,"stream_options":{"include_usage":true}'
            body = form(stream=True) if sound else BODIES[endpoint.shape] % asks
            client.post(body, path.decode(), *((FORM,) if sound else ()))
            call = await peers.call()
            assert call.body == body
            events = EVENTS.get(endpoint.shape, (*CHUNKS[:-1], USAGE, DONE))
            call.send(SSE + chunked(*events) + LAST)
            response = await client.response()
            assert (response.status, response.body, response.complete) == (200, b"".join(events), True)
            assert response.header("content-type") == "text/event-stream; charset=utf-8"
        assert {record["stream"] for record in await harness.settled(len(RELAYED)) if record["path"] == CHAT} == {True}


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_usage_is_asked_for_and_kept_back(path: str) -> None:
    """A client that did not ask for usage gets the stream without it; the log line has it all the same."""
    body = BODIES[RELAYED[path.encode()].shape] % b',"stream":true'
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        answer = SSE + chunked(*CHUNKS[:-1], USAGE, DONE) + LAST
        call, response = await exchange(harness, peers, request(path, body), answer)
        sent, received = json.loads(body), json.loads(call.body)
        assert received == sent | {"stream_options": {"include_usage": True}}
        assert (response.body, response.complete) == (b"".join(CHUNKS), True)
        (record,) = await harness.settled(1)
        assert (record["prompt_tokens"], record["completion_tokens"]) == (7, 2)


async def test_usage_glued_to_its_neighbours_is_cut_out() -> None:
    """The usage event comes in one chunk with the events around it, or cut in the middle; only it is missing."""
    whole = b"".join((*CHUNKS[:-1], USAGE, DONE))
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        for cut in range(0, len(whole), 37):
            pieces = [piece for piece in (whole[:cut], whole[cut:]) if piece]
            raw = request(CHAT, chat(stream=True))
            _, response = await exchange(harness, peers, raw, SSE + chunked(*pieces) + LAST)
            assert response.body == b"".join(CHUNKS)


async def test_headers_towards_the_replica() -> None:
    """Credentials and what is meant for one hop stay behind, also when `Connection` names it only afterwards; the
    rest goes on as it came, with the replica's own key."""
    async with scripted() as peers:
        replica = ReplicaConfig(url=peers.urls[0], name="r0", api_key="the-replicas-own")
        config = msgspec.structs.replace(config_for(peers.urls), replicas=(replica,))
        stays = [
            "Authorization: Bearer clients", "x-api-key: clients", "api-key: clients", "Cookie: a=b",
            "Proxy-Authorization: Basic x", "Keep-Alive: timeout=5", "TE: trailers", "Trailer: x", "Upgrade: h2c",
            "Proxy-Connection: keep-alive", "HTTP2-Settings: AA", "Accept-Encoding: gzip", "x-early: 1",
            "Connection: keep-alive, X-Early, x-late", "x-late: 1", "x-gateway-class: batch",
            "x-gateway-deadline-ms: 5",
        ]  # fmt: skip
        goes = ["Accept: */*", "User-Agent: me", "X-Session-Id: s1", "traceparent: 00-aa-bb-01", "x-odd: h\u00e9llo"]
        async with running(config) as harness:
            raw = request(CHAT, chat(), *stays, *goes, "x-request-id: my-id")
            call, response = await exchange(harness, peers, raw.replace(b"host: gateway", b"host: me"), sized(b"{}"))
        names = [name for name, _ in call.headers]
        assert len(names) == len(set(names))
        assert set(names) == {
            b"host", b"authorization", b"content-type", b"content-length", b"x-request-id", b"accept", b"user-agent",
            b"x-session-id", b"traceparent", b"x-odd",
        }  # fmt: skip
        assert call.header(b"authorization") == [b"Bearer the-replicas-own"]
        assert call.header(b"host") == [peers.urls[0].removeprefix("http://").encode()]
        assert call.header(b"x-odd") == ["h\u00e9llo".encode()]
        assert call.header(b"x-request-id") == [b"my-id"]
        assert response.header("x-request-id") == "my-id"


async def test_headers_towards_the_client() -> None:
    """The replica's headers, but those of its hop; who answered and why; one request id, made where there is none."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        answer = sized(b"{}", b"200 OK", b"Server: uvicorn", b"vary: Origin", b"keep-alive: timeout=5",
                       b"connection: keep-alive", b"X-Request-Id: the-replicas", b"set-cookie: a=b")  # fmt: skip
        call, response = await exchange(harness, peers, request(CHAT, chat()), answer)
        made = call.header(b"x-request-id")[0].decode()
        assert response.headers == [
            ("content-type", "application/json"), ("server", "uvicorn"), ("vary", "Origin"), ("set-cookie", "a=b"),
            ("content-length", "2"), ("x-gateway-replica", "r0"), ("x-gateway-reason", "load"),
            ("x-request-id", made),
        ]  # fmt: skip
        (record,) = await harness.settled(1)
        assert (record["request_id"], record["replica"], record["reason"], record["attempts"]) == (
            made,
            "r0",
            "load",
            1,
        )


@pytest.mark.parametrize("bad", ["x" * 129, "", "h\u00e9"])
async def test_a_request_id_that_cannot_be_used_is_replaced(bad: str) -> None:
    """Too long, empty or not ASCII: the gateway makes its own."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        call, response = await exchange(harness, peers, request(CHAT, chat(), f"x-request-id: {bad}"), sized(b"{}"))
        (told,) = call.header(b"x-request-id")
        assert told
        assert response.header("x-request-id") == told.decode() != bad


async def test_an_http_1_0_client() -> None:
    """Gets no chunks: a stream ends with the connection, a whole answer has its length, and both close."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        for answer, body in ((WHOLE, b"".join((token("a"), token("b", "stop"), DONE))), (sized(b"{}"), b"{}")):
            async with connect(harness.port) as client:
                client.send(request(CHAT, chat(stream=answer is WHOLE), version="1.0"))
                (await peers.call()).send(answer)
                response = await client.response()
                assert response.header("transfer-encoding") is None
                assert (response.body, response.complete) == (body, True)
                assert response.header("connection") == "close"
                assert await client.ended()


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


async def test_models_are_the_union_of_the_fleet() -> None:
    """Each name once; a request goes to a replica that serves its model; an unknown one is 404 and goes nowhere."""
    async with (
        Fleet(1, models=("a", "shared")) as one,
        Fleet(1, models=("b", "shared")) as two,
        running(config_for(one.urls + two.urls)) as harness,
    ):
        async with connect(harness.port) as client:
            client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
            listed = json.loads((await client.response()).body)
            assert [model["id"] for model in listed["data"]] == ["a", "b", "shared"]
        async with connect(harness.port) as client:
            for model, replica in (("a", "r0"), ("b", "r1")):
                answer = await client.ask(chat(model=model, max_tokens=1))
                assert (answer.status, answer.header("x-gateway-replica")) == (200, replica)
            answer = await client.ask(chat(model="nope"))
            assert answer.status == 404
            assert (answer.error["code"], answer.error["param"]) == ("model_not_found", "model")
            assert answer.header("x-gateway-replica") is None
        assert one.replica(0).requests_seen + two.replica(0).requests_seen == 2


async def test_a_request_without_a_model() -> None:
    """Any replica may answer it, with its own model."""
    async with Fleet(1, models=("own",)) as fleet, running(config_for(fleet.urls)) as harness:
        async with connect(harness.port) as client:
            answer = await client.ask({"messages": [{"role": "user", "content": "x"}], "max_tokens": 1})
        assert json.loads(answer.body)["model"] == "own"
        (record,) = await harness.settled(1)
        assert (record["model"], record["replica"]) == (None, "r0")


async def test_many_streams_at_once_do_not_mix() -> None:
    """Fifty clients, each with its own prompt, each with the text that its prompt has without a gateway."""
    async with Fleet(2, speed=50) as fleet, running(config_for(fleet.urls)) as harness:

        async def one(number: int) -> None:
            ask = chat(f"prompt {number}", max_tokens=20, stream=True)
            bodies = []
            for port in (harness.port, fleet.replica(0).port):
                async with connect(port) as client:
                    answer = await client.ask(ask, CHAT, f"x-request-id: id-{number}")
                    assert answer.complete
                    events = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: {")]
                    choices = [json.loads(event)["choices"] for event in events]
                    bodies.append("".join(choice[0]["delta"].get("content") or "" for choice in choices if choice))
            assert bodies[0] == bodies[1] != ""

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, number)
        assert len(await harness.settled(50)) == 50
