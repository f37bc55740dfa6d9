"""Whole requests over real sockets: what is told, counted and cached."""

import json
import re
from typing import Any

import httpx
import pytest

from gateway.emulator.expected import expect, expected_text
from gateway.emulator.fleet import Fleet
from tests.emulator.peer import chat, connect, events, told

pytestmark = pytest.mark.anyio
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


async def test_every_replica_gives_the_expected_text(fleet: Fleet) -> None:
    """Streamed or not, from any replica, at any time: the pure function's text."""
    async with httpx.AsyncClient() as client:
        for url in (*fleet.urls, fleet.urls[0]):
            whole = await client.post(url + CHAT, json=chat("Rivers?", max_tokens=40))
            streamed = await client.post(url + CHAT, json=chat("Rivers?", max_tokens=40, stream=True))
            assert whole.json()["choices"][0]["message"]["content"] == expected_text("Rivers?", 40)
            assert told(streamed) == expected_text("Rivers?", 40)


@pytest.mark.parametrize("seam", [1, 7, 16, 33])
async def test_a_chat_stream_can_be_resumed_as_a_completion(client: httpx.AsyncClient, seam: int) -> None:
    """Prompt ids + output ids up to an event with text give the exact rest, ids and bytes."""
    body = chat("Tell me of bridges", max_tokens=48, ignore_eos=True)
    whole = expect(CHAT, body)
    while not whole.answers[0].pieces[seam - 1]:
        seam -= 1
    prompt = [*whole.prompt_ids, *whole.ids[:seam]]
    rest = {"prompt": prompt, "max_tokens": 48 - seam, "ignore_eos": True, "return_token_ids": True, "stream": True}
    answer = await client.post(COMPLETIONS, json=rest)
    assert told(answer) == "".join(whole.answers[0].pieces[seam:])
    ids = [token for event in events(answer) for token in event["choices"][0]["token_ids"]]
    assert tuple(ids) == whole.ids[seam:]


async def test_a_seam_inside_a_character_returns_the_prompt_too(client: httpx.AsyncClient) -> None:
    """vLLM's half-character bug: the decoded prompt stands before the output."""
    ids = expect(COMPLETIONS, {"prompt": "a", "max_tokens": 400, "ignore_eos": True})
    half = next(at for at, piece in enumerate(ids.answers[0].pieces) if not piece) + 1
    answer = await client.post(COMPLETIONS, json={"prompt": [*ids.prompt_ids, *ids.ids[:half]], "max_tokens": 3})
    text = answer.json()["choices"][0]["text"]
    assert text.startswith("a" + "".join(ids.answers[0].pieces[:half]))
    assert "\ufffd" not in text


async def test_usage_counts_cached_blocks(client: httpx.AsyncClient) -> None:
    """A repeated prompt is cached in whole blocks of 16, never its last token; another salt has another cache."""
    prompt = list(range(1, 49))

    async def cached(**fields: Any) -> int:
        answer = await client.post(COMPLETIONS, json={"prompt": prompt, "max_tokens": 1, **fields})
        usage = answer.json()["usage"]
        assert usage["prompt_tokens"] == len(prompt)
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert [await cached(), await cached()] == [0, 32]
    assert [await cached(cache_salt="a"), await cached(cache_salt="a"), await cached(cache_salt="b")] == [0, 32, 0]
    prompt.append(49)
    assert await cached() == 48


@pytest.mark.parametrize(("length", "stream"), [(1, False), (40, True), (200, True), (333, False)])
async def test_the_next_turn_finds_the_answer_cached(client: httpx.AsyncClient, length: int, stream: bool) -> None:
    """Generated tokens fill blocks: all but the last token of prompt and answer, in whole blocks of 16."""
    first = chat("Tell me of bridges and rivers. " * 20, max_tokens=length, ignore_eos=True)
    answer = await client.post(CHAT, json=first | {"stream": stream, "stream_options": {"include_usage": True}})
    usage = (events(answer)[-1] if stream else answer.json())["usage"]
    said = told(answer) if stream else answer.json()["choices"][0]["message"]["content"]
    turns = [*first["messages"], {"role": "assistant", "content": said}, {"role": "user", "content": "Go on."}]
    cached = (await client.post(CHAT, json={"messages": turns, "max_tokens": 1})).json()["usage"]
    computed = usage["prompt_tokens"] + usage["completion_tokens"] - 1
    assert cached["prompt_tokens_details"]["cached_tokens"] == computed // 16 * 16


async def test_several_choices(client: httpx.AsyncClient) -> None:
    """`n` and lists of prompts give numbered choices that differ."""
    answer = await client.post(COMPLETIONS, json={"prompt": ["a", "b"], "n": 2, "max_tokens": 8})
    choices = answer.json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert len({choice["text"] for choice in choices}) == 4
    streamed = await client.post(CHAT, json=chat("x", n=3, max_tokens=8, stream=True))
    ends = [c["index"] for event in events(streamed) for c in event["choices"] if c["finish_reason"]]
    assert sorted(ends) == [0, 1, 2]


async def test_stop_strings_and_their_reason(client: httpx.AsyncClient) -> None:
    """The text ends before the stop string, which is named in stop_reason."""
    whole = expected_text("stop here", 60, ignore_eos=True)
    stop = whole[40:44]
    answer = await client.post(CHAT, json=chat("stop here", max_tokens=60, ignore_eos=True, stop=[stop]))
    choice = answer.json()["choices"][0]
    assert choice["message"]["content"] == whole[: whole.index(stop)]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


@pytest.mark.parametrize(
    "fields",
    [{"tool_choice": "required"}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}, {}],
)
async def test_tool_calls(client: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    """Name first, then pieces of arguments that join to JSON; the same call without a stream."""
    body = chat("use the tool please", tools=[TOOL], **fields)
    whole = (await client.post(CHAT, json=body)).json()["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    call = whole["message"]["tool_calls"][0]["function"]
    assert call == {"name": "weather", "arguments": '{"city":"river stone","days":7}'}
    streamed = events(await client.post(CHAT, json=body | {"stream": True}))
    deltas = [c["delta"]["tool_calls"][0] for e in streamed for c in e["choices"] if "tool_calls" in c["delta"]]
    assert deltas[0]["function"] == {"name": "weather", "arguments": ""}
    assert "".join(delta["function"]["arguments"] for delta in deltas) == call["arguments"]
    assert streamed[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_tools_are_not_called_without_a_reason(client: httpx.AsyncClient) -> None:
    """With tool_choice auto, a plain question gets plain text."""
    answer = await client.post(CHAT, json=chat("hello", tools=[TOOL], max_tokens=8))
    assert answer.json()["choices"][0]["message"]["content"]


async def test_response_format_gives_json(client: httpx.AsyncClient) -> None:
    """json_schema answers what fits the schema."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}, "tags": {"type": "array"}}}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    answer = await client.post(CHAT, json=chat("x", response_format=form))
    assert answer.json()["choices"][0]["message"]["content"] == '{"ok":true,"tags":["river stone"]}'


async def test_logprobs_have_one_entry_a_token(client: httpx.AsyncClient) -> None:
    """In chat's shape and in that of completions."""
    in_chat = await client.post(CHAT, json=chat("x", max_tokens=5, logprobs=True, top_logprobs=1, ignore_eos=True))
    assert len(in_chat.json()["choices"][0]["logprobs"]["content"]) == 5
    plain = await client.post(COMPLETIONS, json={"prompt": "x", "max_tokens": 5, "logprobs": 1, "ignore_eos": True})
    assert len(plain.json()["choices"][0]["logprobs"]["tokens"]) == 5


async def test_books_and_raw_requests(fleet: Fleet, client: httpx.AsyncClient) -> None:
    """Counts are of inference requests; the newest is kept as raw head and body."""
    replica = fleet.replica(0)
    await client.get("/health")
    async with connect(replica) as peer:
        peer.post(CHAT, chat("x", max_tokens=1), "X-Odd:  spaced ", "X-Twice: 1", "X-Twice: 2")
        await peer.until(b"}}")
    await replica.until(lambda r: r.completed == 1)
    assert (replica.requests_seen, replica.running, replica.aborted) == (1, 0, 0)
    assert replica.last.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: r\r\n")
    assert b"X-Odd:  spaced \r\nX-Twice: 1\r\nX-Twice: 2\r\n" in replica.last.head
    assert replica.last.head.endswith(b"\r\n\r\n")
    assert replica.last.body.startswith(b'{"messages"')
    assert replica.last.header("content-type") == "application/json"
    assert replica.paths_seen["/health"] == 1
    assert fleet.replica(1).requests_seen == 0


@pytest.mark.parametrize("way", ["close", "reset", "half_close"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_aborts_its_request(fleet: Fleet, way: str, stream: bool) -> None:
    """Close, reset and half-close alike, in mid-stream and during a silent wait; the engine is free at once."""
    replica = fleet.replica(0)
    async with connect(replica) as peer:
        peer.post(CHAT, chat("x", max_tokens=20000, ignore_eos=True, stream=stream))
        await replica.until(lambda r: r.running == 1)
        if stream:
            await peer.until(b'"content":" ')
        if way == "half_close":
            peer.half_close()
            assert b"[DONE]" not in await peer.rest()
        elif way == "reset":
            peer.reset()
        else:
            peer.writer.close()
        await replica.until(lambda r: r.aborted == 1)
        assert (replica.running, replica.driver.engine.running, replica.driver.engine.waiting) == (0, 0, 0)


@pytest.mark.slow
async def test_a_slow_reader_loses_nothing() -> None:
    """While a client does not read, tokens wait until it does, and then come out merged."""
    async with Fleet(1, speed=50) as fleet, httpx.AsyncClient(base_url=fleet.urls[0]) as client:
        body = chat("x", n=8, max_tokens=4000, ignore_eos=True, stream=True, logprobs=True, top_logprobs=1)
        async with connect(fleet.replica(0), receive_bytes=4096) as peer:
            peer.post(CHAT, body, "Connection: close")
            await fleet.replica(0).until(lambda r: r.running == 1)
            while (await client.get("/emulator/state")).json()["engine"]["running"]:
                pass
            assert fleet.replica(0).running == 1, "the answer fitted into the buffers: nothing was held back"
            got = await peer.rest()
        texts = ["" for _ in range(8)]
        for index, content in re.findall(rb'"index":(\d),"delta":{"content":("(?:[^"\\]|\\.)*")}', got):
            texts[int(index)] += json.loads(content)
        assert texts == [answer.text for answer in expect(CHAT, body).answers]
        assert got.count(b"data: ") < 32000
