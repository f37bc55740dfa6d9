"""What another replica is asked for the rest of an answer."""

import json
from typing import Any

import pytest

from gateway.core.carry import Carry
from gateway.core.endpoints import RELAYED, Endpoint
from gateway.core.resume import resumed_by_text, resumed_exactly

CHAT, COMPLETION = RELAYED[b"/v1/chat/completions"], RELAYED[b"/v1/completions"]


def carried() -> Carry:
    carry = Carry(exact=True)
    carry.prompt = b"[1,2,3]"
    for text, token in ((b"a", b"5"), (b' \\"b', b"6"), (b"c", b"7")):
        carry.add(text, token)
    return carry


def exactly(endpoint: Endpoint, kept: int = 2, **fields: Any) -> dict[str, Any] | None:
    prompt = {"messages": []} if endpoint is CHAT else {"prompt": "p"}
    body = resumed_exactly(endpoint, json.dumps({"model": "m", **prompt, **fields}).encode(), carried(), kept)
    return None if body is None else json.loads(body)


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETION])
def test_ids_of_prompt_and_output(endpoint):
    """With what the sampler needs, and nothing of what made the prompt."""
    asked = exactly(endpoint, max_tokens=10, temperature=0.5, stop=["x"], add_generation_prompt=True, user="u", seed=4)
    assert asked == {
        "model": "m", "temperature": 0.5, "stop": ["x"], "user": "u", "seed": 4, "prompt": [1, 2, 3, 5, 6],
        "max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "fields", "left"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": None}, None),
        (CHAT, {"max_tokens": 9}, 7),
        (CHAT, {"max_tokens": 9, "max_completion_tokens": 5}, 3),
        (CHAT, {"max_tokens": 9, "max_completion_tokens": None}, 7),
        (COMPLETION, {}, 14),
        (COMPLETION, {"max_tokens": None}, None),
        (COMPLETION, {"max_tokens": 3}, 1),
    ],
)
def test_the_limit_is_what_is_left(endpoint, fields, left):
    """OpenAI's default of a completion is 16 tokens, of a chat what fits: null says so."""
    asked = exactly(endpoint, **fields)
    assert asked is not None
    assert asked["max_tokens"] == left


def test_the_least_is_lowered_too():
    """Left as it is, it could be above the limit: vLLM answers 400 then."""
    assert exactly(CHAT, min_tokens=5)["min_tokens"] == 3
    assert exactly(CHAT, min_tokens=1)["min_tokens"] == 0


@pytest.mark.parametrize("limit", [1, 2])
def test_nothing_is_left(limit):
    """All tokens were told."""
    assert exactly(CHAT, max_tokens=limit) is None
    assert resumed_by_text(COMPLETION, b'{"prompt":"p","max_tokens":%d}' % limit, carried()) is None


def test_by_text_a_chat_ends_with_an_open_message():
    """vLLM's `continue_final_message`; the limit is lowered by the events that were told."""
    body = json.dumps({"messages": [{"role": "user", "content": "p"}], "max_completion_tokens": 10, "x": 1}).encode()
    assert json.loads(resumed_by_text(CHAT, body, carried()) or b"") == {
        "messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": 'a "bc'}],
        "continue_final_message": True, "add_generation_prompt": False, "max_completion_tokens": 7, "x": 1,
    }  # fmt: skip


def test_by_text_a_completion_has_it_behind_its_prompt():
    """Unless the prompt is token ids."""
    told = json.loads(resumed_by_text(COMPLETION, b'{"prompt":"p","max_tokens":10}', carried()) or b"")
    assert told == {"prompt": 'pa "bc', "max_tokens": 7}
    assert resumed_by_text(COMPLETION, b'{"prompt":[1,2],"max_tokens":10}', carried()) is None
