import json

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway.core.events import OUTPUT, read_chunk, read_message_event, read_response_event
from gateway.core.sse import Splitter, data_of
from gateway.core.stencil import MAX_CUTS, Stencil

TEXTS = st.text(max_size=12) | st.sampled_from(['"', "\\", "\n\n", '"}', "é", '","finish_reason":"stop"', "data: "])
KEYS = st.sampled_from(["content", "reasoning_content", "reasoning", "refusal"])
SPACING = st.sampled_from([(",", ":"), (", ", ": ")])


def chunk(fields: dict) -> bytes:
    choice = {"index": fields["index"], "delta": {fields["key"]: fields["text"]}, "finish_reason": fields["end"]}
    made = {"id": fields["id"], "choices": [choice] * fields["choices"], **fields["extra"]}
    text = json.dumps(made, separators=fields["spacing"], ensure_ascii=fields["ascii"])
    return b"data: %b\n\n" % text.encode()


CHUNK = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["a", "b"]),
        "choices": st.sampled_from([1, 1, 1, 1, 1, 0, 2]),
        "index": st.sampled_from([0, 1]),
        "key": KEYS,
        "text": TEXTS,
        "end": st.sampled_from([None, None, None, None, None, "stop", "abort"]),
        "extra": st.sampled_from([{}, {}, {}, {}, {"usage": {"completion_tokens": 1}}, {"error": {"message": "no"}}]),
        "spacing": SPACING,
        "ascii": st.booleans(),
    }
)


@settings(max_examples=200)
@given(CHUNK, CHUNK, st.sampled_from(["text", "text", "text", "end", "extra", "choices", "key", "index"]))
def test_what_fits_would_have_been_read_as_output(known, other, changed):
    """An event that fits is one whole event, and the reader finds output in it and nothing else."""
    stencil = Stencil()
    first, second = chunk(known), chunk({**known, "text": other["text"], changed: other[changed]})
    if read_chunk(data_of(first) or b"") is OUTPUT:
        stencil.cut(first)
    if stencil.read(second):
        assert Splitter().feed(second) == [second]
        assert read_chunk(data_of(second) or b"") is OUTPUT
        event("fits")


TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize(
    "text", [b"b", b" two words", b"line\\nbreak", b"\\u00e9", "é".encode(), b'say \\"a\\"', b"C:\\\\", b'\\\\\\"']
)
def test_the_next_token_fits(text):
    """Nearly all events of a stream take the short way."""
    stencil = Stencil()
    stencil.cut(TOKEN % b"a")
    assert stencil.read(TOKEN % text) is not None


@pytest.mark.parametrize(
    "data",
    [
        TOKEN % b"",
        TOKEN % b'a"',
        TOKEN % b"a\\",
        TOKEN % b'","finish_reason":"stop","content":"a',
        TOKEN % b"b" + TOKEN % b"c",
        (TOKEN % b"b")[:-1],
        (TOKEN % b"b").replace(b"null", b'"stop"'),
        b": ping\n\n",
        b"",
    ],
)
def test_anything_else_does_not_fit(data):
    """No text, another member, a string without an end, two events, half of one, another end: these are parsed."""
    stencil = Stencil()
    assert stencil.read(data) is None
    stencil.cut(TOKEN % b"a")
    assert stencil.read(data) is None


@pytest.mark.parametrize(
    ("read", "form"),
    [
        (
            read_message_event,
            b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}',
        ),
        (read_response_event, b'data: {"type":"response.output_text.delta","delta":"%b"}'),
        (read_chunk, b'data: {"choices":[{"index":0,"text":"%b","finish_reason":null}]}'),
    ],
)
def test_every_api_has_its_text(read, form):
    """Messages, Responses and completions name their text differently."""
    stencil = Stencil()
    assert read((form % b"a")[6:]) is OUTPUT
    stencil.cut(form % b"a" + b"\n\n")
    assert stencil.read(form % b"b" + b"\n\n") is not None


def test_it_gives_up():
    """A stream in which every event differs elsewhere is no longer cut after a while."""
    stencil = Stencil()
    form = b'data: {"id":%d,"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
    for number in range(MAX_CUTS + 1):
        stencil.cut(form % (number, b"a"))
    assert stencil.read(form % (MAX_CUTS, b"b")) is None
    assert stencil.read(form % (MAX_CUTS - 1, b"b")) is not None


def test_an_event_without_text_teaches_nothing():
    """Arguments of a tool call are output as well, but of another form."""
    stencil = Stencil()
    call = b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"a"}}]}}]}\n\n'
    assert read_chunk(call[6:]) is OUTPUT
    stencil.cut(call)
    assert stencil.read(call) is None
