import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import (
    FINISHED,
    MAX_ERROR_CHARS,
    NOTHING,
    OUTPUT,
    Signal,
    Usage,
    read_chunk,
    read_message_event,
    read_nothing,
    read_response_event,
    usage_of,
)
from gateway.core.sse import Splitter, data_of

READERS = [read_chunk, read_message_event, read_response_event]
GOLDEN = Path(__file__).parents[1] / "golden"
KEYS = st.sampled_from(
    ["choices", "delta", "content", "text", "type", "error", "message", "code", "usage", "response", "finish_reason"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


def golden(name: str) -> list[bytes]:
    """The data of the events in a stream as vLLM sends it."""
    events = Splitter().feed((GOLDEN / f"{name}.sse").read_bytes())
    return [data for event in events if (data := data_of(event)) is not None]


def chat(delta: object, **more: object) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}], **more}).encode()


def test_a_chat_stream():
    """The role is no output, each piece of text is, and the end brings reason, usage and `[DONE]`."""
    usage = Usage(prompt_tokens=9, completion_tokens=5, cached_tokens=4)
    assert [read_chunk(data) for data in golden("chat")] == [
        NOTHING,
        OUTPUT,
        OUTPUT,
        Signal(output=True, finished=True),
        Signal(usage=usage, usage_only=True),
        FINISHED,
    ]


def test_a_completions_stream():
    """With continuous usage every event counts tokens, and only the one without choices exists for that alone."""
    assert [read_chunk(data) for data in golden("completions")] == [
        Signal(output=True, usage=Usage(3, 1)),
        Signal(output=True, usage=Usage(3, 2), finished=True),
        Signal(usage=Usage(3, 2, 0), usage_only=True),
        FINISHED,
    ]


def test_a_messages_stream():
    """Text deltas are output, `message_delta` brings the usage, `message_stop` is the end."""
    assert [read_message_event(data) for data in golden("messages")] == [
        NOTHING,
        NOTHING,
        OUTPUT,
        OUTPUT,
        NOTHING,
        Signal(usage=Usage(8, 2, 6)),
        FINISHED,
    ]


def test_a_responses_stream():
    """Text deltas are output, and `response.completed` is the end and brings the usage."""
    assert [read_response_event(data) for data in golden("responses")] == [
        NOTHING,
        NOTHING,
        OUTPUT,
        OUTPUT,
        NOTHING,
        Signal(finished=True, usage=Usage(8, 2, 6)),
    ]


@pytest.mark.parametrize(
    ("delta", "output"),
    [
        ({"content": "x"}, True),
        ({"content": ""}, False),
        ({"content": None}, False),
        ({"role": "assistant"}, False),
        ({"reasoning": "x"}, True),
        ({"reasoning_content": "x"}, True),
        ({"refusal": "x"}, True),
        ({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}, False),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, True),
        ({"tool_calls": [{"index": 0}]}, False),
        ({"tool_calls": []}, False),
        (None, False),
    ],
)
def test_what_is_output_in_a_chat_chunk(delta, output):
    """Text, reasoning, a refusal and tool-call arguments are output; roles, names and empty strings are not."""
    assert read_chunk(chat(delta)) == Signal(output=output)


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
def test_a_finish_reason_is_an_end(reason):
    """Any reason but an abort says that the answer is complete, also when another choice still runs."""
    data = json.dumps({"choices": [{"text": "a", "finish_reason": reason}, {"text": "b"}]}).encode()
    assert read_chunk(data) == Signal(output=True, finished=True)


def test_an_abort_is_told():
    """A replica that was stopped says `abort`: the answer is not complete."""
    assert read_chunk(b'{"choices":[{"delta":{"content":""},"finish_reason":"abort"}]}').aborted


def test_a_choice_without_output_among_several():
    """Several choices count as output only if one of them holds some."""
    assert not read_chunk(b'{"choices":[{"delta":{"role":"assistant"}},{"delta":{"content":""}}]}').output


@pytest.mark.parametrize(
    ("data", "signal"),
    [
        (b'{"error":{"message":"engine died","type":"x","code":500}}', Signal(error="engine died")),
        (b'{"error":{"message":"bad grammar","code":400}}', Signal(error="bad grammar", code=400)),
        (b'{"error":{"message":"m","code":"model_not_found"}}', Signal(error="m")),
        (b'{"error":"Unauthorized"}', Signal(error='"Unauthorized"')),
        (b'{"error":{"message":5}}', Signal(error='{"message":5}')),
        (b'{"error":{}}', Signal(error="{}")),
    ],
)
def test_an_error_event_of_a_chat_stream_is_a_failure(data, signal):
    """A stream whose replica said `error` was settled as a success when `[DONE]` followed."""
    assert read_chunk(data) == signal


def test_a_null_error_is_none():
    """Some engines send `"error": null` in every chunk."""
    assert read_chunk(chat({"content": "x"}, error=None)) == OUTPUT
    assert read_response_event(b'{"type":"response.output_text.delta","delta":"x","error":null}') == OUTPUT
    assert read_response_event(b'{"type":"response.created","error":null}') == NOTHING


def test_an_error_is_told_in_short():
    """A replica's endless words do not end up in our logs."""
    data = json.dumps({"error": {"message": "x" * 9999}}).encode()
    assert read_chunk(data).error == "x" * MAX_ERROR_CHARS


@pytest.mark.parametrize(
    ("data", "signal"),
    [
        (b'{"type":"error","error":{"type":"api_error","message":"boo"}}', Signal(error="boo")),
        (b'{"type":"error"}', Signal(error="the replica reported an error")),
        (b'{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":1}}',
         Signal(aborted=True, usage=Usage(completion_tokens=1))),
        (b'{"type":"message_delta","delta":{"stop_reason" : null}}', Signal(aborted=True)),
        (b'{"type":"message_delta","delta":{"stop_reason":"end_turn"}}', Signal()),
        (b'{"type":"message_delta"}', Signal()),
        (b'{"type":"ping"}', NOTHING),
    ],
)  # fmt: skip
def test_failures_and_ends_of_a_messages_stream(data, signal):
    """An error event and vLLM's stop reason of null are failures; anything unknown is passed over."""
    assert read_message_event(data) == signal


@pytest.mark.parametrize(
    ("delta", "output"),
    [
        ({"type": "text_delta", "text": "x"}, True),
        ({"type": "text_delta", "text": "see signature_delta"}, True),
        ({"type": "text_delta", "text": ""}, False),
        ({"type": "thinking_delta", "thinking": "x"}, True),
        ({"type": "input_json_delta", "partial_json": '{"a"'}, True),
        ({"type": "input_json_delta", "partial_json": ""}, False),
        ({"type": "signature_delta", "signature": "abc"}, False),
        ({"type": "text_delta", "text": 5}, False),
        (None, False),
    ],
)
def test_what_is_output_in_a_content_block_delta(delta, output):
    """Text, thinking and partial JSON are output unless empty; a signature is not."""
    data = json.dumps({"type": "content_block_delta", "index": 0, "delta": delta}).encode()
    assert read_message_event(data) == Signal(output=output)


@pytest.mark.parametrize(
    ("data", "signal"),
    [
        (b'{"type":"response.reasoning_text.delta","delta":"x"}', OUTPUT),
        (b'{"type":"response.function_call_arguments.delta","delta":"{"}', OUTPUT),
        (b'{"type":"response.output_text.delta","delta":""}', NOTHING),
        (b'{"type":"response.output_text.delta","delta":null}', NOTHING),
        (b'{"type":"response.output_text.delta"}', NOTHING),
        (b'{"type":"response.incomplete","response":{"usage":null}}', FINISHED),
        (b'{"type":"response.completed"}', FINISHED),
        (b'{"type":"error","message":"boo","code":"server_error"}', Signal(error="boo")),
        (b'{"type":"error","error":{"message":"boo"}}', Signal(error="boo")),
        (b'{"error":{"message":"no","code":400}}', Signal(error="no", code=400)),
        (b'{"type":"response.failed","response":{"error":{"message":"boo","code":"x"}}}', Signal(error="boo")),
        (b'{"type":"response.failed"}', Signal(error="the replica reported an error")),
        (b'{"type":"response.failed","response":{"error":null}}', Signal(error="the replica reported an error")),
    ],
)
def test_events_of_a_responses_stream(data, signal):
    """Deltas with text are output, ends are ends, and failures are told in the replica's own words."""
    assert read_response_event(data) == signal


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b"{",
        b"not json",
        b"[" * 100_000,
        b'{"x":' + b"[" * 100_000,
        b'{"choices":5,"type":5}',
    ],
)
def test_data_of_another_kind_is_nothing(read, data):
    """What is not what the API promises is passed over: the client may know better."""
    assert read(data) == NOTHING


@pytest.mark.parametrize("read", READERS)
def test_broken_utf_8_is_nothing(read):
    """An event with broken UTF-8 raised out of the relay and left the client without an end."""
    assert read(b'{"choices":[{"text":"\xff"}],"type":"\xff"}') == NOTHING


def test_an_error_in_broken_utf_8_is_still_an_error():
    """A failure counts even when its words cannot be read."""
    assert read_chunk(b'{"error":{"message":"\xff"}}') == Signal(error='{"message":"\ufffd"}')


def test_an_error_nested_too_deeply_is_a_failure():
    """No depth of nesting hides an error, or raises one here."""
    for data in (b'{"error":' + b"[" * 400 + b"]" * 400 + b"}",):
        assert read_chunk(data).error == ("[" * 400 + "]" * 400)[:MAX_ERROR_CHARS]


@pytest.mark.parametrize("read", READERS)
@given(data=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_no_data_raises(read, data):
    """Whatever a replica sends, a reader answers with a signal."""
    assert isinstance(read(data), Signal)


def test_an_api_that_is_not_known():
    """Events of an unknown API count as output, and after each the stream may end."""
    assert read_nothing(b"anything") == Signal(output=True, finished=True)


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":2,"prompt_tokens_details":null}}', Usage(3, 2)),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":0,"prompt_tokens_details":{}}}', Usage(3, 0)),
        (b'{"usage":{"input_tokens":3,"output_tokens":2,"cache_read_input_tokens":1}}', Usage(3, 2, 1)),
        (b'{"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":2}}}', Usage(3, None, 2)),
        (b'{"usage":null}', None),
        (b"{}", None),
        (b"", None),
        (b"[]", None),
        (b'{"usage":{"prompt_tokens":"3"}}', None),
        (b'{"usage":' + b"[" * 100_000, None),
    ],
)
def test_the_usage_of_a_whole_answer(body, usage):
    """Each API's names for token counts are understood, and what is not told stays None."""
    assert usage_of(body) == usage
