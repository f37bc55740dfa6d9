from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import Reader, Usage, read_chunk, read_message_event, read_nothing, read_response_event
from gateway.core.relay import StreamRelay
from gateway.core.sse import MAX_EVENT_BYTES
from tests.chunkings import chunkings

GOLDEN = Path(__file__).parents[1] / "golden"
STREAMS = [
    ("chat", read_chunk),
    ("completions", read_chunk),
    ("messages", read_message_event),
    ("responses", read_response_event),
]

TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}]}\n\n'
ABORT = b'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"abort"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
ERROR = b'data: {"error":{"message":"engine died","type":"InternalServerError","param":null,"code":500}}\n\n'
REFUSAL = b'data: {"error":{"message":"Grammar error","type":"BadRequestError","param":null,"code":400}}\n\n'
COMMENT = b": still here\n\n"
DONE = b"data: [DONE]\n\n"
EVENTS = st.lists(st.sampled_from([TEXT, STOP, USAGE, COMMENT, DONE]), max_size=12)


def relayed(pieces: list[bytes], read: Reader = read_chunk, *, hide_usage: bool = False) -> tuple[StreamRelay, bytes]:
    """The relay after a whole stream, and what the client was sent."""
    relay = StreamRelay(read, hide_usage=hide_usage)
    sent = b"".join(relay.feed(piece) for piece in pieces)
    return relay, sent + relay.finish()


@pytest.mark.parametrize(("name", "read"), STREAMS)
@given(data=st.data())
def test_a_good_stream_passes_untouched(name, read, data):
    """The client gets the replica's bytes, however they were cut, and the relay knows end and usage."""
    stream = (GOLDEN / f"{name}.sse").read_bytes()
    relay, sent = relayed(data.draw(chunkings(stream)), read)
    assert sent == stream
    assert (relay.ended, relay.failed) == (True, None)
    assert relay.usage is not None
    assert relay.usage.completion_tokens in (2, 5)


@given(EVENTS, st.data())
def test_only_the_usage_event_is_hidden(events, data):
    """The client's bytes are the replica's without the event that the gateway asked for, for any chunking."""
    events = [*events, STOP, USAGE, DONE]
    relay, sent = relayed(data.draw(chunkings(b"".join(events))), hide_usage=True)
    assert sent == b"".join(event for event in events if event != USAGE)
    assert relay.usage == Usage(3, 2)
    assert relay.failed is None


def test_usage_that_the_client_asked_for_is_shown():
    """Without hiding, the usage event goes on to the client."""
    assert relayed([TEXT + STOP, USAGE, DONE])[1] == TEXT + STOP + USAGE + DONE


def test_usage_beside_choices_is_never_hidden():
    """An event with continuous usage carries text as well, so it stays."""
    both = b'data: {"choices":[{"text":"a"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    relay, sent = relayed([both, DONE], hide_usage=True)
    assert sent == both + DONE
    assert relay.usage == Usage(3, 1)


@given(EVENTS, EVENTS, st.data())
def test_nothing_follows_an_error_event(before, after, data):
    """The error event is kept apart, for a client that nobody else can answer; a `[DONE]` behind it heals nothing."""
    pieces = data.draw(chunkings(b"".join([*before, ERROR, *after, DONE])))
    relay, sent = relayed(pieces)
    assert sent == b"".join(before)
    assert (relay.failed, relay.last_words, relay.code) == ("engine died", ERROR, None)


@given(EVENTS, EVENTS, st.data())
def test_nothing_follows_an_abort(before, after, data):
    """An abort is kept from the client with all that follows, and the stream has failed whatever `[DONE]` says."""
    pieces = data.draw(chunkings(b"".join([*before, ABORT, *after, DONE])))
    relay, sent = relayed(pieces)
    assert sent == b"".join(before)
    assert relay.failed == "the replica stopped before the answer was complete"
    assert (relay.last_words, relay.code) == (b"", None)


def test_the_first_failure_is_the_one_told():
    """What comes after a failure is not even looked at."""
    relay, sent = relayed([ABORT + ERROR, REFUSAL])
    assert sent == b""
    assert relay.failed == "the replica stopped before the answer was complete"


def test_an_aborted_message_has_failed():
    """A Messages stream that ends with a stop reason of null was stopped, although `message_stop` follows."""
    abort = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":null}}\n\n'
    stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    relay, sent = relayed([abort + stop], read_message_event)
    assert sent == b""
    assert relay.failed is not None


def test_a_refusal_is_told_apart():
    """An error that is the client's own would be the same at any other replica."""
    relay, sent = relayed([REFUSAL + DONE])
    assert (sent, relay.last_words, relay.code) == (b"", REFUSAL, 400)


@given(st.lists(st.sampled_from([TEXT, USAGE, COMMENT]), max_size=8), st.data())
def test_a_stream_without_an_end_has_failed(events, data):
    """A stream that just stops is no answer, even when it stops between two events."""
    relay, sent = relayed(data.draw(chunkings(b"".join(events))))
    assert sent == b"".join(events)
    assert relay.failed == "the replica's stream ended before the answer was complete"


@given(st.data())
def test_half_an_event_never_reaches_the_client(data):
    """Cut anywhere, the client has got whole events only: an error event can follow."""
    stream = TEXT * 3
    cut = data.draw(st.integers(0, len(stream)))
    _, sent = relayed(data.draw(chunkings(stream[:cut])))
    assert sent == TEXT * (cut // len(TEXT))


def test_a_finish_reason_is_an_end_without_done():
    """A stream is complete after its finish reason, and what follows the last event goes on."""
    relay, sent = relayed([TEXT + STOP + b": bye\n"])
    assert sent == TEXT + STOP + b": bye\n"
    assert relay.failed is None


def test_output_is_that_of_the_last_feed():
    """Each feed says whether it held generated output; comments and ends do not."""
    relay = StreamRelay(read_chunk, hide_usage=False)
    told = []
    for piece in (COMMENT, TEXT, TEXT[:10], TEXT[10:], STOP, USAGE, ERROR, TEXT):
        relay.feed(piece)
        told.append(relay.output)
    assert told == [False, True, False, True, False, False, False, False]


def test_an_unknown_api_ends_as_it_likes():
    """Where events are not known, any event is output, and the stream may end after any of them."""
    relay, sent = relayed([b"data: x\n\n"], read_nothing)
    assert sent == b"data: x\n\n"
    assert relay.output
    relay.finish()
    assert relay.failed is None


def test_an_endless_event_flows_through():
    """Bytes over the limit for one event pass unread, and count as output and as a proper end."""
    endless = b"data: " + b"x" * MAX_EVENT_BYTES
    relay, sent = relayed([TEXT, endless, b"more"])
    assert sent == TEXT + endless + b"more"
    assert (relay.output, relay.ended, relay.failed) == (True, True, None)
