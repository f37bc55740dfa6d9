"""The four dialects against captures of a real vLLM (six tokens each), event by event and key by key."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.emulator.anthropic import Messages
from gateway.emulator.chat import Chat
from gateway.emulator.completions import Completions
from gateway.emulator.prompts import ASKS, Served
from gateway.emulator.refusals import ENGINE_DEAD
from gateway.emulator.responses import Responses
from gateway.emulator.shapes import Shape

GOLDEN = Path(__file__).parent / "golden"
USER = [{"role": "user", "content": "hello"}]
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CASES: dict[str, tuple[type[Shape], str, dict[str, Any]]] = {
    "chat": (Chat, "/v1/chat/completions", {"messages": USER, "max_tokens": 6, **USAGE}),
    "completions": (
        Completions,
        "/v1/completions",
        {
            "prompt": "hello",
            "max_tokens": 6,
            "return_token_ids": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        },
    ),
    "responses": (Responses, "/v1/responses", {"input": "hello", "max_output_tokens": 6}),
    "messages": (Messages, "/v1/messages", {"messages": USER, "max_tokens": 6}),
}


def shape_of(name: str, **fields: Any) -> Shape:
    """A shape for a body whose tokens all bring out text."""
    kind, path, body = CASES[name]
    return kind(ASKS[path](json.dumps({"ignore_eos": True, **body, **fields}).encode(), Served()), "probe", 1795548607)


def stream(shape: Shape, *counts: int) -> str:
    """All events of a stream whose tokens come in these lumps."""
    return (shape.opening() + b"".join(shape.tokens(0, count) for count in counts) + shape.closing()).decode()


def outline(value: Any) -> Any:
    """Names and nesting without values; lists of numbers or nothing count as one."""
    if isinstance(value, dict):
        return [(key, outline(item)) for key, item in value.items()]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [outline(item) for item in value]
    return "-"


def outlines(text: str) -> list[tuple[str, Any]]:
    """(event name, outline of its JSON) for each event of a stream."""
    blocks = [block for block in text.replace("\r\n", "\n").split("\n\n") if "data: " in block]
    parsed = []
    for block in blocks:
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        payload = lines["data"]
        parsed.append((lines.get("event", ""), payload if payload == "[DONE]" else outline(json.loads(payload))))
    return parsed


@pytest.mark.parametrize(("name", "lumps"), [(n, (1, 4, 1) if n == "responses" else (1,) * 6) for n in CASES])
def test_a_stream_has_the_events_and_keys_of_the_real_one(name: str, lumps: tuple[int, ...]) -> None:
    """Names, order and nesting of keys equal the capture's; only values differ."""
    captured = (GOLDEN / f"{name}_stream.sse").read_text().replace("\r\n", "\n").partition("\n\n")[2]
    shape = shape_of(name)
    assert all(shape.answers[0].pieces), "pick a prompt without half characters"
    assert outlines(stream(shape, *lumps)) == outlines(captured)


@pytest.mark.parametrize("name", ["chat", "completions"])
def test_no_usage_unless_asked(name: str) -> None:
    """Without include_usage no event has usage and [DONE] follows the last text."""
    text = stream(shape_of(name, stream_options=None), 3, 3)
    assert "usage" not in text
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("name", list(CASES))
def test_merged_tokens_tell_the_same_text(name: str) -> None:
    """However tokens are lumped together, the whole answer has the text of all pieces."""
    shape = shape_of(name)
    stream(shape, 2, 1, 3)
    assert json.dumps(shape.answers[0].text, ensure_ascii=False)[1:-1] in shape.whole().decode()


@pytest.mark.parametrize(("name", "reason"), [("chat", '"abort"'), ("completions", '"abort"'), ("messages", "null")])
def test_a_cut_answer_ends_with_its_reason(name: str, reason: str) -> None:
    """An aborted stream has one more event with empty text and a complete end."""
    shape = shape_of(name)
    shape.tokens(0, 2)
    end = b"".join(shape.tokens(index, 0) for index in shape.cut()) + shape.closing()
    key = "stop_reason" if name == "messages" else "finish_reason"
    assert f'"{key}":{reason}' in end.decode()
    assert sum(shape.sent) == len(shape.answers[0].ids) == 2


def test_a_broken_engine_ends_streams_as_the_real_one_does() -> None:
    """OpenAI streams: an error event and [DONE]; responses: nothing; messages: an error event."""
    openai = b'data: {"error":{"message":"EngineCore encountered an issue.'
    assert shape_of("chat").failed(ENGINE_DEAD).startswith(openai)
    assert shape_of("chat").failed(ENGINE_DEAD).endswith(b"data: [DONE]\n\n")
    assert shape_of("responses").failed(ENGINE_DEAD) == b""
    assert shape_of("messages").failed(ENGINE_DEAD).startswith(b"event: error\n")


def test_chat_token_ids_come_with_their_events() -> None:
    """Prompt ids at the top of the first event, token ids in each choice."""
    shape = shape_of("chat", return_token_ids=True)
    parsed = [json.loads(line[6:]) for line in stream(shape, 2, 4).split("\n") if line.startswith("data: {")]
    assert parsed[0]["prompt_token_ids"] == list(shape.ask.prompts[0])
    ids = [token for event in parsed for choice in event["choices"] for token in choice.get("token_ids") or ()]
    assert ids == list(shape.answers[0].ids)
