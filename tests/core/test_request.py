import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.endpoints import RELAYED
from gateway.core.request import HEAD_BYTES, RequestFacts, parse
from gateway.errors import BadRequest

CHAT = b"/v1/chat/completions"
COMPLETION = b"/v1/completions"
JSON_PATHS = [CHAT, COMPLETION, b"/v1/responses", b"/v1/messages", b"/v1/embeddings"]
USER = {"role": "user", "content": "hello"}

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = st.sampled_from(["stream_options", "include_usage", "a", 'q"', "é", "messages"]) | TEXTS
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
SPACES = st.text(" \t\r\n", max_size=3)
OPTIONS = st.none() | st.fixed_dictionaries(
    {}, optional={"include_usage": st.sampled_from([None, False]), "continuous_usage_stats": st.booleans(), "x": VALUES}
)


def facts_of(value: object, path: bytes = CHAT) -> RequestFacts:
    return parse(RELAYED[path], b"application/json", value if isinstance(value, bytes) else json.dumps(value).encode())


def refused(body: object, path: bytes = CHAT) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        facts_of(body, path)
    assert caught.value.status == 400
    return caught.value


def top_level(body: bytes) -> dict[str, bytes]:
    """The top-level values of a JSON object, each as its bytes."""
    return {name: bytes(value) for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


# what a request is


def test_the_facts_of_a_chat():
    """Model and stream are read, the estimate follows the prompt's length, and the body goes on as it came."""
    body = b'{"model":"m", "messages":[{"role":"user","content":"%b"}]}' % (b"hello " * 100)
    facts = facts_of(body)
    assert (facts.model, facts.stream, facts.hides_usage, facts.body) == ("m", False, False, body)
    assert facts.prompt_tokens == (len("hello ") * 100 + len("\0user\0")) // 4
    assert facts.endpoint is RELAYED[CHAT]


def test_a_model_may_be_absent():
    """A body without a model is none's mistake: the replica's own answers."""
    assert facts_of({"messages": [USER]}).model is None
    assert facts_of({"model": None, "input": "x"}, b"/v1/embeddings").model is None


def test_the_smallest_body_is_one_token():
    """No request is free."""
    assert facts_of(b"{}", b"/tokenize").prompt_tokens == 1


@given(st.dictionaries(NAMES.filter(lambda name: name not in ("messages", "stream_options")), VALUES, max_size=4))
def test_unknown_fields_are_no_business_of_ours(fields):
    """Fields that routing does not read may hold anything, and stay in the body."""
    body = json.dumps({**fields, "messages": [USER], "model": "m", "stream": False}).encode()
    assert facts_of(body).body == body


@pytest.mark.parametrize("path", JSON_PATHS)
@given(body=st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_anything_but_bad_request(path, body):
    """Any bytes are either read or refused."""
    try:
        facts_of(body, path)
    except BadRequest:
        pass


# what is refused


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": 1}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{"role": 1}]}, "messages[0].role"),
        ({"messages": [USER, {"role": None}]}, "messages[1].role"),
        ({"messages": [USER], "model": 1}, "model"),
        ({"messages": [USER], "stream": "yes"}, "stream"),
        ({"messages": [USER], "stream_options": 1}, "stream_options"),
        ({"messages": [USER], "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
def test_a_wrong_type_names_its_field(body, param):
    """A field of the wrong type, or one that is missing, is named by its path."""
    error = refused(body)
    assert error.param == param
    assert "$" not in error.message


@pytest.mark.parametrize("path", JSON_PATHS)
@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b'"x"', b"true"])
def test_a_body_that_is_no_object_is_refused(path, body):
    """JSON that is not an object has no field to blame."""
    error = refused(body, path)
    assert error.param is None


@pytest.mark.parametrize("path", JSON_PATHS)
@pytest.mark.parametrize("body", [b" ", b"{", b"hello", b"\xff", b"\xef\xbb\xbf{}", b'{"messages":[]}x', b'{"a":NaN}'])
def test_a_body_that_is_no_json_is_refused(path, body):
    """What cannot be read as JSON is the client's mistake."""
    assert "not valid JSON" in refused(body, path).message


@pytest.mark.parametrize("path", JSON_PATHS)
def test_an_empty_body_is_refused(path):
    """A request without a body is told what was expected."""
    assert "no body" in refused(b"", path).message


@pytest.mark.parametrize("path", JSON_PATHS)
def test_a_name_in_broken_utf_8_is_refused(path):
    """A model in broken UTF-8 raised out of the connection instead of being answered with 400."""
    body = b'{"messages":[{"role":"user","content":"x"}],"model":"\xff"}'
    assert "not valid JSON" in refused(body, path).message


def test_a_key_in_broken_utf_8_is_refused_when_the_body_is_rewritten():
    """A body that is to ask for usage is not passed on half understood."""
    body = b'{"\xff":1,"messages":[],"stream":true,"stream_options":{}}'
    assert "not valid JSON" in refused(body).message


@pytest.mark.parametrize("path", JSON_PATHS)
@pytest.mark.parametrize("field", ["x", "messages", "input", "prompt", "system", "stream_options"])
def test_deep_nesting_is_refused(path, field):
    """A hundred thousand brackets are answered, whichever field they are in."""
    body = b'{"%b":%b%b}' % (field.encode(), b"[" * 100_000, b"]" * 100_000)
    assert refused(body, path)
    body = b'{"messages":[{"role":"user","content":%b%b}]}' % (b'{"a":' * 100_000, b"1" + b"}" * 100_000)
    assert "nested too deeply" in refused(body, path).message


# asking for usage


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.booleans(), OPTIONS, SPACES, st.sampled_from([CHAT, COMPLETION]))
def test_a_stream_asks_for_usage_and_keeps_the_rest(fields, has_options, options, space, path):
    """Whatever else a body holds, the replica is asked for usage, and all other values keep their bytes."""
    fields = {name: value for name, value in fields.items() if name != "stream_options"}
    fields |= {"messages": [USER], "stream": True, "model": "m", "prompt": "x"}
    if has_options:
        fields["stream_options"] = options
    body = (space + json.dumps(fields, indent=1) + space).encode()
    facts = facts_of(body, path)
    assert facts.hides_usage
    sent, original = top_level(facts.body), top_level(body)
    asked = json.loads(sent.pop("stream_options"))
    original.pop("stream_options", None)
    assert sent == original
    assert asked == {**(options or {}), "include_usage": True} if has_options else asked == {"include_usage": True}
    json.loads(facts.body)


@pytest.mark.parametrize(
    "fields",
    [
        b'"stream_options":null',
        b'"stream_options" : {} ',
        b'"stream_options":{"include_usage":false}',
        b'"stream_options":{"include_usage":true},"stream_options":null',
        b'"stream_options":null,"stream_options":{"include_usage":false}',
        b'"stream\\u005foptions":null',
        b'"stream\\u005foptions":{"include_usage":false}',
    ],
)
def test_stream_options_in_any_spelling(fields):
    """Null, empty, doubled or escaped: the last one that a replica reads asks for usage."""
    facts = facts_of(b'{"messages":[],"stream":true,%b}' % fields)
    assert facts.hides_usage
    assert json.loads(facts.body)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "field",
    [b'"tools":[{"properties":{"stream_options":{}}}]', b'"user":"stream_options"', b'"stop":["stream_options"]'],
)
def test_stream_options_elsewhere_in_the_body(field):
    """A tool with a parameter named `stream_options` raised KeyError and broke the connection."""
    facts = facts_of(b'{"messages":[],"stream":true,%b}' % field)
    sent = top_level(facts.body)
    assert json.loads(sent.pop("stream_options")) == {"include_usage": True}
    assert sent == top_level(b'{"messages":[],"stream":true,%b}' % field)


def test_a_client_that_asks_for_usage_gets_it():
    """Its body is not touched and its usage event not hidden."""
    body = b'{"messages":[],"stream":true,"stream_options":{"include_usage":true}}'
    facts = facts_of(body)
    assert (facts.hides_usage, facts.body) == (False, body)


@pytest.mark.parametrize("path", [b"/v1/responses", b"/v1/messages", b"/v1/embeddings"])
def test_other_apis_are_not_asked(path):
    """APIs that report usage by themselves get the body as it came."""
    body = b'{"messages":[{"role":"user","content":"x"}],"stream":true}'
    facts = facts_of(body, path)
    assert (facts.stream, facts.hides_usage, facts.body) == (True, False, body)


@pytest.mark.parametrize("stream", [False, None])
def test_an_answer_in_one_piece_is_not_asked(stream):
    """Usage is part of a whole answer anyway."""
    assert not facts_of({"messages": [], "stream": stream}).hides_usage


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
