import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.endpoints import RELAYED
from gateway.errors import BadRequest
from tests.core.asked import (
    CHAT,
    JSON_PATHS,
    NAMES,
    USER,
    VALUES,
    facts_of,
    refused,
)

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
