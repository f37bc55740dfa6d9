"""What real vLLM answers arrives as it is: every API, streamed and not, and the errors."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.processes import Serving
from tests.real_vllm.replicas import MODEL, Replica
from tests.real_vllm.seen import CHAT, chat, events, gateway_before, prose, streamed, text_of, whole

HELLO = "Hello there!"
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}, "days": {"type": "integer", "enum": [1, 2]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": PLACE, "strict": True}}
MESSAGES: Any = [{"role": "user", "content": HELLO}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 40, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def gateway(replicas: list[Replica], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One for all: what it learns changes who answers, not what."""
    with gateway_before(replicas, tmp_path_factory.mktemp("gateway")) as started:
        yield started


@pytest.fixture(scope="module")
def direct(replicas: list[Replica]) -> str:
    """The text that a replica gives without a gateway."""
    text = text_of(replicas[0].http, chat(HELLO))
    assert text == text_of(replicas[1].http, chat(HELLO)) != ""
    return text


def assert_place(arguments: str) -> None:
    place = json.loads(arguments)
    assert set(place) == {"city", "days"}
    assert place["city"] in ("Oslo", "Rome")


def test_chats(sdk: openai.OpenAI, direct: str) -> None:
    """The same text, streamed and not; the usage only for who asks."""
    answer = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, **GREEDY)
    assert answer.choices[0].message.content == direct
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 40
    chunks = list(sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **GREEDY))
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == direct
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    *rest, last = sdk.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    assert last.usage is not None
    assert (last.choices, last.usage.completion_tokens) == ([], 40)
    assert all(chunk.usage is None for chunk in rest)


def test_completions(sdk: openai.OpenAI, replicas: list[Replica]) -> None:
    """By text and by token ids."""
    body = {"model": MODEL, "prompt": HELLO, "temperature": 0, "max_tokens": 20, "ignore_eos": True}
    direct = replicas[0].http.post("/v1/completions", json=body).json()["choices"][0]["text"]
    ids = replicas[0].http.post("/tokenize", json={"model": MODEL, "prompt": HELLO}).json()["tokens"]
    fields: dict[str, Any] = {"temperature": 0, "max_tokens": 20, "extra_body": {"ignore_eos": True}}
    assert sdk.completions.create(model=MODEL, prompt=HELLO, **fields).choices[0].text == direct
    assert sdk.completions.create(model=MODEL, prompt=ids, **fields).choices[0].text == direct
    chunks = sdk.completions.create(model=MODEL, prompt=HELLO, stream=True, **fields)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == direct


def test_responses(sdk: openai.OpenAI, direct: str) -> None:
    """Events with names, and no [DONE]; vLLM gives them the chat's text."""
    fields: dict[str, Any] = {"temperature": 0, "max_output_tokens": 40, "extra_body": {"ignore_eos": True}}
    answer = sdk.responses.create(model=MODEL, input=HELLO, **fields)
    seen = list(sdk.responses.create(model=MODEL, input=HELLO, stream=True, **fields))
    assert answer.output_text == direct
    assert "".join(event.delta for event in seen if event.type == "response.output_text.delta") == direct
    assert seen[-1].type == "response.completed"


def test_messages(http: httpx.Client, direct: str) -> None:
    """Anthropic's API, its stream, and its count of tokens."""
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 40, "temperature": 0, "ignore_eos": True}
    answer = http.post("/v1/messages", json=body).json()
    counted = http.post("/v1/messages/count_tokens", json={"model": MODEL, "messages": MESSAGES}).json()
    assert answer["usage"]["input_tokens"] == counted["input_tokens"] > 0
    with http.stream("POST", "/v1/messages", json=body | {"stream": True}) as stream:
        seen = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    pieces = [event["delta"]["text"] for event in seen if event["type"] == "content_block_delta"]
    assert seen[-1]["type"] == "message_stop"
    assert "".join(pieces) == answer["content"][0]["text"] != ""


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_tool_calls(sdk: openai.OpenAI, choice: Any) -> None:
    """A call whose arguments follow the schema, and the same from the pieces of a stream."""
    fields: dict[str, Any] = {"tools": [WEATHER], "tool_choice": choice, "temperature": 0, "max_tokens": 2000}
    calls = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, **fields).choices[0].message.tool_calls or []
    assert calls
    assert {call.function.name for call in calls if call.type == "function"} == {"weather"}
    chunks = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **fields)
    pieces = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    for call in calls:
        assert call.type == "function"
        assert_place(call.function.arguments)
    arguments = dict.fromkeys(range(len(calls)), "")
    for piece in pieces:
        arguments[piece.index] += (piece.function and piece.function.arguments) or ""
    # As the model wrote it, with its blanks; of a whole answer, vLLM writes it anew.
    assert [json.loads(text) for text in arguments.values()] == [
        json.loads(call.function.arguments) for call in calls if call.type == "function"
    ]


def test_logprobs(sdk: openai.OpenAI) -> None:
    """Each token with its probability and its rivals."""
    answer = sdk.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=5, logprobs=True, top_logprobs=2
    )
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    assert [len(token.top_logprobs) for token in tokens] == [2] * len(tokens)
    assert len(tokens) > 0


def test_several_answers_at_once(sdk: openai.OpenAI) -> None:
    """n = 3: each with its index and its end, in a stream mixed."""
    fields: dict[str, Any] = {"n": 3, "temperature": 1, "max_tokens": 10, "extra_body": {"ignore_eos": True}}
    answer = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, seed=7, **fields)
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2]
    texts, ends = dict.fromkeys(range(3), ""), []
    for chunk in sdk.chat.completions.create(model=MODEL, messages=MESSAGES, seed=7, stream=True, **fields):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason else []
    assert sorted(ends) == [0, 1, 2]
    assert texts == {choice.index: choice.message.content for choice in answer.choices}


def test_json_by_schema(sdk: openai.OpenAI) -> None:
    """The grammar reaches the engine."""
    schema: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}
    answer = sdk.chat.completions.create(
        model=MODEL, messages=MESSAGES, response_format=schema, temperature=0, max_tokens=200
    )
    assert_place(answer.choices[0].message.content or "")


def test_stop_strings(sdk: openai.OpenAI, http: httpx.Client, direct: str) -> None:
    """The text ends before the string, in a stream as well, where vLLM holds back what might be its beginning."""
    middle = len(direct) // 2
    stop = direct[middle : middle + 4]
    expected = direct[: direct.index(stop)]
    answer = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stop=[stop], **GREEDY)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (expected, "stop")
    assert streamed(http, chat(HELLO, stop=[stop])) == expected


def test_tokens_there_and_back(http: httpx.Client) -> None:
    """`/tokenize` and `/detokenize`, outside of /v1."""
    told = http.post("/tokenize", json={"model": MODEL, "prompt": HELLO}).json()
    assert told["count"] == len(told["tokens"]) > 0
    assert http.post("/detokenize", json={"model": MODEL, "tokens": told["tokens"]}).json()["prompt"] == HELLO


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat(temperature=-1)),
        (CHAT, chat(max_tokens=100_000)),
        (CHAT, chat(prose("long", 6000))),
        (CHAT, chat(prose("long", 6000), stream=True)),
        (CHAT, chat(response_format={"type": "json_schema"})),
        ("/v1/completions", {"model": MODEL, "prompt": "x", "max_tokens": "many"}),
        ("/v1/embeddings", {"model": MODEL, "input": "x"}),
        ("/v1/messages", {"model": MODEL, "messages": MESSAGES}),
    ],
)
def test_errors_pass_as_they_are(http: httpx.Client, replicas: list[Replica], path: str, body: dict[str, Any]) -> None:
    """The status and the bytes that the replica gives: SDKs know how to read them."""
    direct = replicas[0].http.post(path, json=body)
    passed = http.post(path, json=body)
    assert direct.status_code >= 400
    assert (passed.status_code, passed.content) == (direct.status_code, direct.content)
    assert "x-gateway-attempts" not in passed.headers


def test_a_bad_grammar_in_a_stream(sdk: openai.OpenAI) -> None:
    """vLLM begins the stream with 200 and tells the error inside: the SDK raises it, and no other replica is asked."""
    schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 7}}}
    with sdk.chat.completions.create(model=MODEL, messages=MESSAGES, response_format=schema, stream=True) as stream:
        with pytest.raises(openai.APIError, match=r"(?i)grammar|schema"):
            list(stream)
        assert "x-gateway-attempts" not in stream.response.headers


def test_a_model_that_nobody_serves(sdk: openai.OpenAI) -> None:
    """The gateway's own word; and its list of models is the fleet's."""
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="none", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert [model.id for model in sdk.models.list()] == [MODEL]


def test_who_answered(http: httpx.Client) -> None:
    """The gateway's headers, and one request id from end to end: vLLM's answer is named after it."""
    answer = http.post(CHAT, json=chat(max_tokens=1), headers={"x-request-id": "mine"})
    assert answer.headers["x-gateway-replica"] in ("a", "b")
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert answer.json()["id"] == "chatcmpl-mine"


def test_a_streams_usage_tells_what_was_cached(http: httpx.Client) -> None:
    """vLLM counts whole blocks of the prompt; the gateway passes the detail on."""
    text = prose("cached", 400)
    first = whole(http, chat(text, max_tokens=1))["usage"]
    with http.stream("POST", CHAT, json=chat(text, stream=True, stream_options={"include_usage": True})) as answer:
        *_, last = events(answer.iter_lines())
    assert first["prompt_tokens"] == last["usage"]["prompt_tokens"] > 500
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] >= 512
