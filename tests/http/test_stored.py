"""Responses that a replica has kept: whoever holds one tells of it."""

import contextlib
from collections.abc import AsyncIterator

import anyio
import httpx
import msgspec
import pytest

from tests.api.shapes import assert_openai_error
from tests.peers import MODELS, Call, Peers, chunked, scripted, sized
from tests.running import config_for, running

pytestmark = pytest.mark.anyio

UNKNOWN = sized(b'{"error":{"message":"Response not found"}}', b"404 Not Found")
KEPT = b'{"id":"resp_1","object":"response","status":"in_progress"}'


@contextlib.asynccontextmanager
async def asking(peers: Peers) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway before these replicas, each with a key of its own."""
    config = config_for(peers.urls)
    keyed = tuple(msgspec.structs.replace(entry, api_key=f"key-{entry.name}") for entry in config.replicas)
    async with (
        running(msgspec.structs.replace(config, replicas=keyed)) as harness,
        httpx.AsyncClient(base_url=harness.url, headers={"authorization": "Bearer sk-client"}) as http,
    ):
        yield http


def holds(peers: Peers, replica: int, answer: bytes) -> list[Call]:
    """Let one replica know every response, the others none; the list of what they are asked about responses."""
    asked: list[Call] = []

    def tell(call: Call) -> None:
        if b"/v1/responses/" not in call.target:
            call.send(sized(MODELS))
            return
        asked.append(call)
        port = call.header(b"host")[0].rpartition(b":")[2].decode()
        call.send(answer if peers.urls[replica].endswith(port) else UNKNOWN)

    peers.answer = peers.answer_get = tell
    return asked


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/responses/resp_1?include[]=usage"), ("POST", "/v1/responses/resp_1/cancel")],
)
async def test_every_replica_is_asked_until_one_knows_it(method: str, path: str) -> None:
    """With its own key, and with nothing of the client's; the answer comes as it is."""
    async with scripted(3) as peers, asking(peers) as http:
        asked = holds(peers, 1, sized(KEPT))
        answer = await http.request(method, path)
        assert (answer.status_code, answer.content) == (200, KEPT)
        assert [call.header(b"authorization") for call in asked] == [[b"Bearer key-r0"], [b"Bearer key-r1"]]
        assert [call.target.decode() for call in asked] == [path] * 2
        assert answer.headers["content-type"] == "application/json"


async def test_nobody_knows_it() -> None:
    """404 in OpenAI's shape; but 502 while somebody who may know it does not answer."""
    async with scripted(2) as peers, asking(peers) as http:
        holds(peers, 0, UNKNOWN)
        assert_openai_error(await http.get("/v1/responses/resp_2"), 404, "not_found")
        peers.answer_get = lambda call: call.close() if b"/v1/responses/" in call.target else call.send(sized(MODELS))
        assert_openai_error(await http.get("/v1/responses/resp_2"), 502, "replica_failed")


async def test_a_stream_that_breaks_says_so() -> None:
    """A kept response may be read as a stream: what came is passed on, and the end is an error event."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b'event: response.created\ndata: {"type":"response.created"}\n\n'
    async with scripted(1) as peers, asking(peers) as http:
        asked = holds(peers, 0, head + chunked(event))
        async with http.stream("GET", "/v1/responses/resp_1", params={"stream": "true"}) as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == event
            asked[0].close()
            with anyio.fail_after(10):
                rest = b"".join([piece async for piece in pieces])
        assert rest.startswith(b"event: error\ndata: ")
        assert b"replica r0 broke off" in rest


async def test_other_methods() -> None:
    async with scripted(1) as peers, asking(peers) as http:
        assert (await http.put("/v1/responses/resp_1")).status_code == 405
        assert (await http.options("/v1/responses/resp_1/cancel")).headers["allow"] == "POST, OPTIONS"
