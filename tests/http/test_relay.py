"""The relay over real sockets: what a replica is sent, and what a client gets."""

import json

import anyio
import openai
import pytest

from gateway.config import Resilience
from gateway.core.endpoints import RELAYED, Shape
from gateway.emulator.fleet import Fleet
from tests.http.exchanges import BODIES, CHUNKS, EVENTS, FORM, USAGE, exchange, form
from tests.peers import DONE, LAST, SSE, chunked, scripted, sized
from tests.raw import CHAT, chat, connect, request
from tests.running import config_for, running

pytestmark = pytest.mark.anyio


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
    off = Resilience(resume="off")  # nothing is added for a resume
    async with (
        scripted() as peers,
        running(config_for(peers.urls, resilience=off)) as harness,
        connect(harness.port) as client,
    ):
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
        assert received == sent | {"stream_options": {"include_usage": True}, "return_token_ids": True}
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
