"""The OpenAI SDK against `gateway serve`: what a program sees that changes its base URL and nothing else."""

import json
from collections.abc import AsyncIterator, Iterator

import anyio
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from gateway.emulator.expected import expected_text
from tests.processes import serving

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello!"}]
TEXT = expected_text("Hello!", 20)
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
ARGUMENTS = {"city": "river stone", "days": 7}


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    """One gateway process with its embedded fleet, for all tests here."""
    with serving() as gateway:
        yield gateway.api_url


@pytest.fixture
def sdk(api_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=api_url, api_key="unused", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
async def async_sdk(api_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=api_url, api_key="unused", max_retries=0, timeout=30) as client:
        yield client


def test_a_chat(sdk: openai.OpenAI) -> None:
    """The answer is the replica's, with its usage."""
    answer = sdk.chat.completions.create(model="emulated", messages=HELLO, max_tokens=20)
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20


def test_a_streamed_chat(sdk: openai.OpenAI) -> None:
    """The same text in chunks; usage is not asked for, so none comes, although the gateway itself has asked."""
    with sdk.chat.completions.create(model="emulated", messages=HELLO, max_tokens=20, stream=True) as stream:
        chunks = list(stream)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == TEXT
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_stream_with_its_usage(sdk: openai.OpenAI) -> None:
    """`include_usage` brings the last chunk, which has the counts and no choices."""
    with sdk.chat.completions.create(
        model="emulated", messages=HELLO, max_tokens=20, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *rest, last = stream
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 20
    assert all(chunk.usage is None for chunk in rest)


async def test_async_chats_streamed_and_not(async_sdk: openai.AsyncOpenAI) -> None:
    """The asynchronous client gets the same."""
    answer = await async_sdk.chat.completions.create(model="emulated", messages=HELLO, max_tokens=20)
    stream = await async_sdk.chat.completions.create(model="emulated", messages=HELLO, max_tokens=20, stream=True)
    streamed = [choice.delta.content or "" async for chunk in stream for choice in chunk.choices]
    assert answer.choices[0].message.content == "".join(streamed) == TEXT


async def test_a_stream_that_is_left_harms_no_other(async_sdk: openai.AsyncOpenAI) -> None:
    """A program that stops reading and goes on with the next request gets a whole answer."""
    async with await async_sdk.chat.completions.create(
        model="emulated", messages=HELLO, max_tokens=5000, stream=True
    ) as stream:
        await anext(aiter(stream))
    answer = await async_sdk.chat.completions.create(model="emulated", messages=HELLO, max_tokens=20)
    assert answer.choices[0].message.content == TEXT


def test_the_stream_helper(sdk: openai.OpenAI) -> None:
    """`chat.completions.stream` adds up the chunks itself, and agrees."""
    with sdk.chat.completions.stream(model="emulated", messages=HELLO, max_tokens=20) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        assert "".join(deltas) == TEXT
        assert stream.current_completion_snapshot.choices[0].message.content == TEXT


def test_a_tool_call(sdk: openai.OpenAI) -> None:
    """The function's name and its arguments as JSON."""
    answer = sdk.chat.completions.create(model="emulated", messages=HELLO, tools=[WEATHER], tool_choice="required")
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", ARGUMENTS)


def test_a_streamed_tool_call(sdk: openai.OpenAI) -> None:
    """The name first, then the arguments in pieces."""
    with sdk.chat.completions.create(
        model="emulated", messages=HELLO, tools=[WEATHER], tool_choice="required", stream=True
    ) as stream:
        parts = [call for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    functions = [part.function for part in parts if part.function is not None]
    assert [function.name for function in functions if function.name] == ["weather"]
    assert json.loads("".join(function.arguments or "" for function in functions)) == ARGUMENTS


def test_a_structured_answer(sdk: openai.OpenAI) -> None:
    """`response_format` reaches the replica untouched."""
    answer = sdk.chat.completions.create(
        model="emulated", messages=HELLO, response_format={"type": "json_object"}, max_tokens=200
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


def test_a_parsed_answer(sdk: openai.OpenAI) -> None:
    """`parse` makes a JSON schema of a class, and an object of the answer."""

    class Trip(pydantic.BaseModel):
        city: str
        days: int

    answer = sdk.chat.completions.parse(model="emulated", messages=HELLO, response_format=Trip, max_tokens=200)
    trip = answer.choices[0].message.parsed
    assert trip is not None
    assert (trip.city, trip.days) != ("", None)


async def test_many_streams_at_once(async_sdk: openai.AsyncOpenAI) -> None:
    """Each program gets its own text, whoever else is being answered."""
    texts: dict[int, str] = {}

    async def ask(i: int) -> None:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"Hello {i}!"}]
        async with async_sdk.chat.completions.stream(model="emulated", messages=messages, max_tokens=20) as stream:
            texts[i] = "".join([event.delta async for event in stream if event.type == "content.delta"])

    async with anyio.create_task_group() as group:
        for i in range(32):
            group.start_soon(ask, i)
    assert texts == {i: expected_text(f"Hello {i}!", 20) for i in range(32)}


def test_headers_tell_who_answered(sdk: openai.OpenAI) -> None:
    """The raw response has the replica, the reason and the request's id, which the client may choose."""
    raw = sdk.chat.completions.with_raw_response.create(
        model="emulated", messages=HELLO, max_tokens=1, extra_headers={"x-request-id": "mine"}
    )
    assert raw.headers["x-gateway-replica"] in {f"emulated-{i}" for i in range(4)}
    assert raw.headers["x-gateway-reason"] in {"prefix", "load"}
    assert raw.headers.get_list("x-request-id") == ["mine"]
    assert raw.parse().choices[0].finish_reason == "length"
    own = sdk.chat.completions.with_raw_response.create(model="emulated", messages=HELLO, max_tokens=1)
    assert own.headers["x-request-id"] not in ("", "mine")


def test_completions(sdk: openai.OpenAI) -> None:
    """The older API, streamed and not."""
    answer = sdk.completions.create(model="emulated", prompt="Once upon a time", max_tokens=20)
    with sdk.completions.create(model="emulated", prompt="Once upon a time", max_tokens=20, stream=True) as stream:
        streamed = "".join(choice.text for chunk in stream for choice in chunk.choices)
    assert answer.choices[0].text == streamed != ""


def test_responses(sdk: openai.OpenAI) -> None:
    """The newer API, streamed and not; its stream ends with the whole response."""
    answer = sdk.responses.create(model="emulated", input="Hello!", max_output_tokens=20)
    with sdk.responses.create(model="emulated", input="Hello!", max_output_tokens=20, stream=True) as stream:
        events = list(stream)
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert answer.output_text == deltas != ""
    assert answer.usage is not None
    assert answer.usage.output_tokens == 20
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")


def test_the_responses_stream_helper(sdk: openai.OpenAI) -> None:
    """It checks the order of the events, and agrees with the answer that is not streamed."""
    with sdk.responses.stream(model="emulated", input="Hello!", max_output_tokens=500) as stream:
        final = stream.get_final_response()
    answer = sdk.responses.create(model="emulated", input="Hello!", max_output_tokens=500)
    assert final.output_text == answer.output_text != ""


def test_embeddings(sdk: openai.OpenAI) -> None:
    """A vector for each text; the SDK asks for base64 and reads it itself."""
    answer = sdk.embeddings.create(model="emulated", input=["one", "two", "one"])
    one, two, again = (item.embedding for item in answer.data)
    assert one == again != two
    assert all(isinstance(value, float) for value in one)


def test_a_transcription_of_bytes(sdk: openai.OpenAI) -> None:
    """A multipart upload whose model is one of its fields; the same sound gives the same text."""
    sound = bytes(range(256)) * 200
    first, again, other = (
        sdk.audio.transcriptions.create(model="emulated", file=("sound.wav", piece)).text
        for piece in (sound, sound, sound[::-1])
    )
    assert first == again != other
    assert first != ""


def test_a_streamed_transcription(sdk: openai.OpenAI) -> None:
    """Also a multipart request may ask for a stream."""
    with sdk.audio.transcriptions.with_streaming_response.create(
        model="emulated", file=("sound.wav", b"\0" * 50_000), stream=True
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def test_models(sdk: openai.OpenAI) -> None:
    """The fleet's models, each once; one by its name."""
    assert [model.id for model in sdk.models.list()] == ["emulated"]
    model = sdk.models.retrieve("emulated")
    assert (model.id, model.object) == ("emulated", "model")
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("none")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model(sdk: openai.OpenAI, stream: bool) -> None:
    """NotFoundError, with the field to blame, before any replica is asked."""
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="none", messages=HELLO, stream=stream)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "x-gateway-replica" not in caught.value.response.headers
    assert caught.value.request_id


def test_a_request_that_the_gateway_cannot_read(sdk: openai.OpenAI) -> None:
    """BadRequestError with `param`."""
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="emulated", messages="Hello!")  # type: ignore[call-overload]
    assert caught.value.param == "messages"


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_the_replica_refuses(sdk: openai.OpenAI, stream: bool) -> None:
    """The replica's own 4xx passes through, and is not tried elsewhere."""
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="emulated", messages=HELLO, temperature=-1, stream=stream)
    assert caught.value.param == "temperature"
    assert "x-gateway-replica" in caught.value.response.headers
    assert "x-gateway-attempts" not in caught.value.response.headers


def test_an_unknown_path(sdk: openai.OpenAI) -> None:
    """An API that is not relayed: NotFoundError in OpenAI's shape."""
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.files.list()
    assert caught.value.code == "not_found"
