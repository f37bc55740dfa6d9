"""Replicas that die in mid-stream: the client gets the answer that one replica would have given, from two."""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import pytest

from gateway.config import Resilience
from gateway.config.keys import Probe
from gateway.core.types import ReplicaId
from gateway.emulator.expected import expect
from gateway.emulator.faults import Fault
from gateway.emulator.fleet import Fleet
from tests.peers import SSE, chunked, scripted, token
from tests.raw import CHAT, Response, connect
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

PATIENT = Resilience(probe=Probe(interval_s=3600.0, fall=1000))
IMPATIENT = msgspec.structs.replace(PATIENT, idle_timeout_s=1.5)
COMPLETIONS = "/v1/completions"

DEATHS: dict[str, dict[str, object]] = {
    "is stopped: abort and [DONE]": {"fault": "abort"},
    "loses its engine: error event and [DONE]": {"fault": "engine_error"},
    "is cut off": {"fault": "cut_after_bytes", "after_bytes": 2500},
    "is reset": {"fault": "cut_after_bytes", "after_bytes": 2500, "reset": True},
    "sends a broken chunk": {"fault": "bad_chunk"},
    "falls silent": {"fault": "stall"},
}


PROMPT = b"[1,2,3]"
FRAME = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"emulated",'
ROLE = (
    b"data: " + FRAME + b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,'
    b'"finish_reason":null}],"prompt_token_ids":' + PROMPT + b',"prompt_text":null}\n\n'
)
ROLE_SHOWN = ROLE.replace(PROMPT, b"null")
USAGE = {"prompt_tokens": 3, "total_tokens": 6, "completion_tokens": 3}


def told(delta: bytes, ids: bytes, finish: bytes = b"null", more: bytes = b"") -> bytes:
    """One event of a chat as vLLM writes it for `return_token_ids`."""
    choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b,"token_ids":%b}%b' % (delta, finish, ids, more)
    return b"data: " + FRAME + b'"choices":[%b]}\n\n' % choice


ODD: dict[str, bytes] = {
    "reasoning": told(b'{"reasoning":"hm"}', b"null"),
    "tool calls": told(b'{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}', b"null"),
    "no ids": told(b'{"content":"a"}', b"null"),
    "two choices": told(b'{"content":"a"}', b"null", more=b',{"index":1,"delta":{"content":"b"}}'),
}


def asked(path: str, text: str, **fields: Any) -> dict[str, Any]:
    prompt = {"messages": [{"role": "user", "content": text}]} if path == CHAT else {"prompt": text}
    return {"model": "emulated", "stream": True, "max_tokens": 60, "ignore_eos": True, **prompt, **fields}


def events(response: Response) -> list[dict[str, Any]]:
    """The stream's events, whose end must be `[DONE]` and the last chunk."""
    *datas, done = [line[6:] for line in response.body.split(b"\n\n") if line]
    assert (done, response.complete) == (b"[DONE]", True)
    return [json.loads(data) for data in datas]


def counts(body: dict[str, Any], path: str) -> tuple[int, int]:
    """Prompt and completion tokens of an unbroken answer."""
    right = expect(path, body)
    return len(right.prompt_ids), len(right.ids)


def text_of(told: list[dict[str, Any]]) -> str:
    choices = [event["choices"][0] for event in told if event["choices"]]
    return "".join([choice["delta"].get("content", "") if "delta" in choice else choice["text"] for choice in choices])


def assert_seamless(response: Response, body: dict[str, Any], path: str) -> None:
    """One role, one id, one time, the whole text, the right end and the right usage."""
    told = events(response)
    right = expect(path, body)
    assert text_of(told) == right.text
    assert len({(event["id"], event["created"], event["model"], event["object"]) for event in told}) == 1
    choices = [event["choices"][0] for event in told if event["choices"]]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + [right.finish_reason]
    assert choices[-1]["stop_reason"] == right.answers[0].stop_reason
    if path == CHAT:
        assert [choice["delta"].get("role") for choice in choices] == ["assistant"] + [None] * (len(choices) - 1)
    if not body.get("return_token_ids"):
        assert all(choice.get("token_ids") is None for choice in choices)
        assert all(event.get("prompt_token_ids") is None for event in told)
    wants_usage = body.get("stream_options", {}).get("include_usage")
    assert [bool(event.get("usage")) for event in told] == [False] * (len(told) - 1) + [bool(wants_usage)]
    if wants_usage:
        usage = told[-1]["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(right.prompt_ids), len(right.ids))
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@contextlib.asynccontextmanager
async def two_replicas(resilience: Resilience = PATIENT, speed: float = 1) -> AsyncIterator[tuple[Fleet, Running]]:
    """The first one is chosen: the other is believed to have more to do."""
    async with Fleet(2, speed=speed) as fleet, running(config_for(fleet.urls, resilience=resilience)) as harness:
        elsewhere = harness.gateway.books.open(ReplicaId("r1"), 1, 1)
        yield fleet, harness
        elsewhere.close()
        await harness.settled(1)
        assert harness.gateway.books.total_in_flight() == 0
        assert [replica.running for replica in fleet.replicas] == [0, 0]


async def settled(harness: Running) -> list[dict[str, Any]]:
    """The request's record; the books hold the one entry that `two_replicas` made."""
    with anyio.fail_after(10):
        while not harness.records():
            await anyio.sleep(0.005)
    return harness.records()


def metric(harness: Running, name: str, label: str) -> dict[str, float]:
    """A metric's values by its label."""
    lines = harness.gateway.metrics.render().decode().splitlines()
    found = [re.match(rf'{name}\{{{label}="(\w+)"\}} (\S+)', line) for line in lines]
    return {match[1]: float(match[2]) for match in found if match}


def resumes(harness: Running) -> dict[str, float]:
    """`gateway_resumes_total` by outcome."""
    return metric(harness, "gateway_resumes_total", "outcome")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("death", DEATHS)
async def test_another_replica_goes_on(death: str, path: str) -> None:
    """Whatever way a replica has to die."""
    async with two_replicas(IMPATIENT, speed=1) as (fleet, harness), connect(harness.port) as client:
        body = asked(path, f"the river, {death}", stream_options={"include_usage": True})
        fleet.replica(0).command(msgspec.convert({"after_tokens": 20, **DEATHS[death]}, Fault))
        response = await client.ask(body, path)
        assert_seamless(response, body, path)
        assert response.header("x-gateway-replica") == "r0"
        (record,) = await settled(harness)
        assert (record["status"], record["replicas"], record["replica"]) == (200, ["r0", "r1"], "r1")
        assert (record["reason"], record["attempts"]) == ("resume", 2)
        assert 1 <= record["resumed"] < 60
        assert (record["prompt_tokens"], record["completion_tokens"]) == counts(body, path)
        assert resumes(harness) == {"resumed": 1.0}


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_every_cut(path: str) -> None:
    """After each number of tokens, half characters among them; the client did not ask for usage."""
    async with two_replicas(speed=100) as (fleet, harness), connect(harness.port) as client:
        body = asked(path, "cut anywhere", max_tokens=40)
        for cut in range(1, 40):
            fleet.replica(0).recover()
            fleet.replica(0).fault("abort", after_tokens=cut)
            assert_seamless(await client.ask(body, path), body, path)
        assert {record["attempts"] for record in harness.records()} == {2}


STOPS = {
    "one that comes": [" it"],
    "a long one that comes over many tokens": ["light winter engine garden copper", " of"],
    "characters of three bytes": [" 東京", " 日本"],
    "one that is kept": [" the"],
    "one that never comes": ["~~~~~~~~~~~~~~~"],
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_stop_strings_over_the_seam(path: str, stop: str) -> None:
    """Text is held back before the seam, and a stop string may begin there; nothing is lost, nothing told twice."""
    kept = stop == "one that is kept"
    options = {"stop": STOPS[stop], "include_stop_str_in_output": kept, "stream_options": {"include_usage": True}}
    body = asked(path, f"stop at {stop}", max_tokens=200, **options)
    length = len(expect(path, body).ids)
    async with two_replicas(speed=100) as (fleet, harness), connect(harness.port) as client:
        for cut in {*range(1, min(length, 12)), *range(max(1, length - 12), length), length // 2}:
            fleet.replica(0).recover()
            fleet.replica(0).fault("abort", after_tokens=cut)
            assert_seamless(await client.ask(body, path), body, path)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stop_string_that_is_shown_begins_before_the_seam(path: str) -> None:
    """Its first characters were told already, and the new replica must see all of it to stop there."""
    body = asked(path, "shown", max_tokens=80, include_stop_str_in_output=True)
    body["stop"] = [expect(path, body).text[60:90], "~~~"]
    length = len(expect(path, body).ids)
    assert length < 80
    async with two_replicas(speed=100) as (fleet, harness), connect(harness.port) as client:
        for cut in range(1, length):
            fleet.replica(0).recover()
            fleet.replica(0).fault("abort", after_tokens=cut)
            assert_seamless(await client.ask(body, path), body, path)


async def test_one_after_the_other() -> None:
    """Every replica fails each request after seven tokens, and the answer is still the one."""
    async with (
        Fleet(4, speed=50) as fleet,
        running(config_for(fleet.urls, resilience=PATIENT)) as harness,
        connect(harness.port) as client,
    ):
        body = asked(CHAT, "a bad day", stop=["~~~~"], stream_options={"include_usage": True})
        for replica in fleet.replicas:
            replica.fault("abort", after_tokens=7)
        assert_seamless(await client.ask(body), body, CHAT)
        (record,) = await settled(harness)
        assert record["attempts"] >= 9
        assert record["completion_tokens"] == 60


@pytest.mark.parametrize("death", ["die", "go_silent"])
async def test_a_process_that_is_gone(death: str) -> None:
    """Killed, all its connections break. Stopped, its streams often fall silent, and its port refuses."""
    async with two_replicas(IMPATIENT, speed=1) as (fleet, harness), connect(harness.port) as client:
        body = asked(CHAT, f"gone: {death}", max_tokens=100)
        client.post(body)
        response = await client.head()
        while piece := await client.chunk():
            response.chunks.append(piece)
            if len(response.chunks) == 5:
                fleet.replica(0).fault(death)
        response.body = b"".join(response.chunks)
        assert_seamless(response, body, CHAT)


async def test_token_ids_that_the_client_asked_for() -> None:
    """They go on over the seams, each id once, also those without text of their own."""
    async with two_replicas(speed=50) as (fleet, harness), connect(harness.port) as client:
        body = asked(CHAT, "ids, please", return_token_ids=True, max_tokens=40)
        for cut in range(1, 40):
            for replica, tokens in zip(fleet.replicas, (cut, 3), strict=True):
                replica.recover()
                replica.fault("abort", after_tokens=tokens, times=1)
            response = await client.ask(body)
            assert_seamless(response, body, CHAT)
            told = events(response)
            ids = [token for event in told for token in event["choices"][0].get("token_ids") or []]
            assert tuple(ids) == expect(CHAT, body).ids
            assert tuple(told[0]["prompt_token_ids"]) == expect(CHAT, body).prompt_ids


@pytest.mark.parametrize("usage", [True, False])
async def test_only_the_end_is_missing(usage: bool) -> None:
    """The finish reason was told, then the replica died: nobody else needs to be asked."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=PATIENT)) as harness:
        options = {"stream_options": {"include_usage": True}} if usage else {}
        async with connect(harness.port) as client:
            client.post(asked(CHAT, "nearly", **options))
            call = await peers.call()
            call.send(
                SSE + chunked(ROLE, told(b'{"content":"a"}', b"[7]"), told(b'{"content":"b"}', b"[8,9]", b'"stop"'))
            )
            call.close()
            response = await client.response()
        found = events(response)
        assert text_of(found) == "ab"
        assert [event.get("usage") for event in found[3:]] == ([USAGE] if usage else [])
        (record,) = await harness.settled(1)
        assert (record["status"], record["prompt_tokens"], record["completion_tokens"]) == (200, 3, 3)
        assert len(peers.calls) == 1


NOT_RESUMABLE: dict[str, dict[str, Any]] = {
    "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    "a JSON schema": {"response_format": {"type": "json_object"}},
    "guided output": {"structured_outputs": {"regex": "a*"}},
    "log probabilities": {"logprobs": True},
    "several choices": {"n": 2},
    "a presence penalty": {"presence_penalty": 1},
    "a frequency penalty": {"frequency_penalty": 0.5},
    "continuous usage": {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    "a picture": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]},
}


@pytest.mark.parametrize("why", NOT_RESUMABLE)
async def test_what_cannot_be_resumed_rightly_is_not_touched(why: str) -> None:
    """The replica gets the client's bytes, and its death is told by an error event."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=PATIENT)) as harness:
        async with connect(harness.port) as client:
            body = asked(CHAT, "as it is", **NOT_RESUMABLE[why])
            client.post(body)
            call = await peers.call()
            assert b"return_token_ids" not in call.body
            call.send(SSE + chunked(ROLE_SHOWN, token("a")))
            call.close()
            response = await client.response()
        assert response.body.startswith(ROLE_SHOWN + token("a") + b'data: {"error":')
        assert not response.complete
        assert len(peers.calls) == 1
        assert resumes(harness) == {"impossible": 1.0}


@pytest.mark.parametrize("odd", ["reasoning", "tool calls", "no ids", "two choices"])
async def test_a_stream_that_turns_out_to_be_more_than_text(odd: str) -> None:
    """A reasoning parser, an engine without token ids: seen in the events, and not resumed."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=PATIENT)) as harness:
        async with connect(harness.port) as client:
            client.post(asked(CHAT, "odd"))
            call = await peers.call()
            call.send(SSE + chunked(ROLE, ODD[odd]))
            call.close()
            response = await client.response()
        assert response.body.startswith(ROLE_SHOWN + ODD[odd] + b'data: {"error":')
        assert not response.complete
        assert len(peers.calls) == 1


@pytest.mark.parametrize("fault", ["error", "short_body"])
async def test_nobody_is_left(fault: str) -> None:
    """The other replica fails, too, or what it answers is no stream: an error event, never a false end."""
    async with two_replicas() as (fleet, harness), connect(harness.port) as client:
        fleet.replica(0).fault("abort", after_tokens=50)
        fleet.replica(1).fault(fault)
        response = await client.ask(asked(CHAT, "nobody", max_tokens=100))
        assert not response.complete
        assert b"[DONE]" not in response.body
        assert b"cut-sho" not in response.body
        assert response.body.rsplit(b"\n\n", 2)[1].startswith(b'data: {"error":{')
        (record,) = await settled(harness)
        assert record["status"] == 502


async def test_switched_off() -> None:
    """No token ids are asked for, and a broken stream ends with an error event."""
    resilience = msgspec.structs.replace(PATIENT, resume="off")
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=resilience)) as harness:
        async with connect(harness.port) as client:
            client.post(asked(CHAT, "off"))
            call = await peers.call()
            assert b"return_token_ids" not in call.body
            call.send(SSE + chunked(token("a")))
            call.close()
            assert not (await client.response()).complete
        assert len(peers.calls) == 1


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_by_text(path: str) -> None:
    """What was told is put behind the request; in the emulator, whose tokens are words, that is the same prompt."""
    async with two_replicas(msgspec.structs.replace(PATIENT, resume="text")) as (fleet, harness):
        async with connect(harness.port) as client:
            body = asked(path, "by text", max_tokens=40)
            fleet.replica(0).fault("abort", after_tokens=15)
            told = events(await client.ask(body, path))
        assert len(text_of(told)) > 20
        assert len({(event["id"], event["created"]) for event in told}) == 1
        choices = [event["choices"][0] for event in told if event["choices"]]
        assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
        assert choices[-1]["finish_reason"] == "length"
        if path == CHAT:
            assert [choice["delta"].get("role") for choice in choices] == ["assistant"] + [None] * (len(choices) - 1)
        assert resumes(harness) == {"resumed": 1.0}
