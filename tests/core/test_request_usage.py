"""Asking for usage: what a streamed request gets added, and when it is left alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.asked import (
    CHAT,
    COMPLETION,
    NAMES,
    OPTIONS,
    SPACES,
    USER,
    VALUES,
    facts_of,
    top_level,
)


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
