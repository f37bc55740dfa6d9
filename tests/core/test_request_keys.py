"""What a request is routed by: the key of its system prompt, its session, the blocks of its prompt."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.endpoints import RELAYED
from gateway.core.request import HEAD_BYTES, parse
from tests.core.asked import (
    CHAT,
    COMPLETION,
    TEXTS,
    USER,
    VALUES,
    facts_of,
)

# the key of the system prompt


def key(value: dict[str, Any], path: bytes = CHAT) -> int | None:
    return facts_of(value, path).system_key


def turns(*contents: tuple[str, object]) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": role, "content": content} for role, content in contents]}


def test_one_system_prompt_is_one_key():
    """What users say does not change the key; another system prompt or model does."""
    base = key(turns(("system", "be brief"), ("user", "one")))
    assert base == key(turns(("system", "be brief"), ("user", "two"), ("assistant", "x"), ("user", "y")))
    assert base == key(turns(("developer", "be brief"), ("user", "one")))
    assert base != key(turns(("system", "be long"), ("user", "one")))
    assert base != key({**turns(("system", "be brief"), ("user", "one")), "model": "other"})


def test_without_a_system_prompt_the_first_message_counts():
    """Its beginning stands for what the prompts of one application share."""
    assert key(turns(("user", "one"), ("user", "x"))) == key(turns(("user", "one"), ("user", "y")))
    assert key(turns(("user", "one"))) != key(turns(("user", "two")))
    long = "x" * HEAD_BYTES
    assert key(turns(("user", long + "a"))) == key(turns(("user", long + "b")))


@pytest.mark.parametrize("nothing", [None, "", []])
def test_an_empty_system_prompt_is_none(nothing):
    """Every client that sent `"system": null` was given one and the same replica."""
    one, two = turns(("user", "one")), turns(("user", "two"))
    assert key({**one, "system": nothing}, b"/v1/messages") == key(one, b"/v1/messages")
    assert key({**one, "system": nothing}, b"/v1/messages") != key({**two, "system": nothing}, b"/v1/messages")
    assert key(turns(("system", nothing), ("user", "one"))) == key(one)
    assert key(turns(("user", nothing))) is None
    assert key({"prompt": nothing}, COMPLETION) is None
    assert key({"input": nothing}, b"/v1/responses") is None


def test_the_keys_of_the_other_apis():
    """Messages go by `system`, Responses by `instructions` or the input, completions by the prompt."""
    assert key({"system": "s", "messages": [USER]}, b"/v1/messages") == key(
        {"system": "s", "messages": []}, b"/v1/messages"
    )
    assert key({"instructions": "i", "input": "a"}, b"/v1/responses") == key({"instructions": "i"}, b"/v1/responses")
    assert key({"input": "a"}, b"/v1/responses") != key({"input": "b"}, b"/v1/responses")
    assert key({"prompt": [1, 2]}, COMPLETION) != key({"prompt": [1, 3]}, COMPLETION)


@pytest.mark.parametrize(
    ("path", "body"),
    [(b"/v1/embeddings", {"input": "x"}), (CHAT, {"messages": []}), (COMPLETION, {}), (b"/v1/responses", {})],
)
def test_no_prompt_is_no_key(path, body):
    """A request without a prompt that a cache could know has no key."""
    assert key(body, path) is None


# forms


def test_a_form_is_read_for_its_model():
    """Audio uploads tell model and stream as text fields; the body stays as it is."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
        b'--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\nTrue\r\n--b--\r\n'
    )
    facts = parse(RELAYED[b"/v1/audio/transcriptions"], b"multipart/form-data; boundary=b", body)
    assert (facts.model, facts.stream, facts.system_key, facts.hides_usage) == ("whisper", True, None, False)
    assert facts.body is body


def test_a_form_without_fields():
    """A form that names no model is routed like any request without one, and is not streamed."""
    facts = parse(RELAYED[b"/v1/audio/transcriptions"], b"multipart/form-data; boundary=b", b"--b--")
    assert (facts.model, facts.stream, facts.prompt_tokens) == (None, False, 1)


def test_the_session_is_in_the_facts():
    """`x-session-id` is known to the policies, for JSON and for forms."""
    body = b'{"messages":[]}'
    assert parse(RELAYED[CHAT], b"", body, session="s1").session == "s1"
    form = parse(RELAYED[b"/v1/audio/transcriptions"], b"multipart/form-data; boundary=b", b"--b--", session="s2")
    assert form.session == "s2"


# the prompt's blocks


def blocks(value: object, path: bytes = CHAT) -> tuple[int, ...]:
    return facts_of(value, path).blocks


LONG = "lorem ipsum dolor \u00e9 " * 60


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS.filter(bool)), min_size=1, max_size=4)
)
def test_the_spelling_of_the_json_does_not_matter(said):
    """White space and escapes are the client's own; content as a text or as one text part is the same."""
    value = turns(("system", LONG), *said)
    parts = turns(*((role, [{"type": "text", "text": text}]) for role, text in [("system", LONG), *said]))
    spelt = [json.dumps(value, indent=2).encode(), json.dumps(value, ensure_ascii=False).encode(), json.dumps(parts)]
    assert {blocks(json.dumps(value).encode())} == {
        blocks(body if isinstance(body, bytes) else body.encode()) for body in spelt
    }


@pytest.mark.parametrize("field", ["model", "cache_salt"])
def test_nothing_is_shared_between_models_and_salts(field):
    """The engine keeps their blocks apart, so does the chain."""
    value = turns(("user", LONG))
    assert not set(blocks({**value, field: "a"})) & set(blocks({**value, field: "b"}))


def test_a_later_turn_begins_with_the_earlier_one():
    """The blocks of a conversation so far are the first blocks of the conversation that goes on."""
    said = [("system", LONG), ("user", "one"), ("assistant", LONG), ("user", "two")]
    first, second = blocks(turns(*said[:2])), blocks(turns(*said))
    assert second[: len(first)] == first
    assert len(second) > len(first)


def test_tools_come_first():
    """Other tools, another beginning; the same tools in another spelling, the same."""
    tools = [{"type": "function", "function": {"name": "f", "description": LONG}}]
    value = turns(("user", LONG))
    with_tools = {**value, "tools": tools}
    assert blocks(with_tools)[0] != blocks(value)[0]
    assert blocks(json.dumps(with_tools, indent=1).encode()) == blocks(
        json.dumps(with_tools, ensure_ascii=False).encode()
    )


def test_tool_calls_are_said_too():
    """What an assistant called is part of the prompt, though its content is null."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": LONG}}]}
    value = turns(("user", LONG))
    assert len(blocks({**value, "messages": [*value["messages"], call]})) > len(blocks(value))


def test_the_blocks_of_the_other_apis():
    """Every API with a prompt has blocks, and they follow what is said."""
    for path, field in [(COMPLETION, "prompt"), (b"/v1/responses", "input"), (b"/v1/embeddings", "input")]:
        assert len(blocks({field: LONG}, path)) > 1
        assert blocks({field: LONG}, path) != blocks({field: "x" + LONG}, path)
    ids = list(range(300))
    assert facts_of({"prompt": ids}, COMPLETION).prompt_tokens == 300
    assert len(blocks({"prompt": ids}, COMPLETION)) == 2
    assert blocks({"input": ids}, b"/v1/embeddings") == blocks({"prompt": ids}, COMPLETION)
    assert blocks({"messages": [{"role": "user", "content": LONG}]}, b"/v1/embeddings")
    assert blocks({"query": LONG, "documents": ["a", "b"]}, b"/v1/rerank")
    assert blocks({"text_1": LONG, "text_2": "a"}, b"/score")
    assert blocks({"system": LONG, "messages": []}, b"/v1/messages")


def test_a_response_is_a_conversation():
    """Instructions are the system's, an input text the user's, as in a chat."""
    as_chat = turns(("system", LONG), ("user", LONG))
    assert blocks({"model": "m", "instructions": LONG, "input": LONG}, b"/v1/responses") == blocks(as_chat)
    items = {"model": "m", "input": as_chat["messages"]}
    assert blocks(items, b"/v1/responses") == blocks(as_chat)
    assert blocks({"model": "m", "input": [{"type": "function_call_output", "output": LONG}]}, b"/v1/responses")


@given(st.sampled_from([b"content", b"tool_calls", b"name"]), VALUES)
def test_what_a_replica_may_accept_is_not_refused(field, value):
    """A message's values may be of any type: the replica decides."""
    message = {"role": "user", field.decode(): value}
    assert facts_of({"messages": [message], "tools": value, "cache_salt": value}).model is None


@pytest.mark.parametrize(
    ("path", "field"), [(COMPLETION, "prompt"), (b"/v1/responses", "input"), (b"/v1/score", "query")]
)
@given(value=VALUES)
def test_prompts_of_any_type_are_not_refused(path, field, value):
    """So is a prompt of any API."""
    assert facts_of({field: value}, path).prompt_tokens >= 1


def test_the_estimate_follows_the_models_ratio():
    """What was learned of a tokenizer turns bytes into tokens, blocks too; ids need no guess."""
    body = json.dumps({"model": "m", "prompt": "x" * 1024}).encode()
    facts = parse(RELAYED[COMPLETION], b"", body, bytes_per_token=lambda model: 2.0 if model == "m" else 4.0)
    assert (facts.prompt_tokens, facts.block_tokens, facts.prompt_bytes) == (512, 256, 1024)
    assert facts.uncached_tokens(1) == 256
    assert facts.uncached_tokens(2) == 1
    ids = parse(RELAYED[COMPLETION], b"", b'{"prompt":[1,2,3]}', bytes_per_token=lambda _: 2.0)
    assert (ids.prompt_tokens, ids.block_tokens, ids.prompt_bytes) == (3, 128, 0)
