import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sse import MAX_EVENT_BYTES, Splitter, data_of, encode
from tests.chunkings import chunkings

FRAGMENTS = st.sampled_from(
    [b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b" ", b"", b"\0", b"\xff", "é🌍".encode()]
) | (st.sampled_from([b"data: ", b"data:", b"data", b"dataset: x", b": note", b"event: x", b"[DONE]", b"{}"]))
STREAMS = st.lists(FRAGMENTS, max_size=30).map(b"".join) | st.binary(max_size=80)


def split(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = Splitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events, splitter.rest()


def data_by_the_book(stream: bytes) -> list[bytes]:
    """The data of a stream's events, line by line as the specification tells it."""
    found: list[bytes] = []
    data: list[bytes] = []
    *lines, _ = re.split(rb"\r\n|\n|\r", stream)
    for line in lines:
        field, _, value = line.partition(b":")
        if not line:
            found += [b"\n".join(data)] if data else []
            data = []
        elif field == b"data":
            data.append(value.removeprefix(b" "))
    return found


@given(STREAMS, st.data())
def test_any_chunking_gives_the_data_that_the_specification_gives(stream, data):
    """However a stream is cut into reads, its events carry the data that reading it line by line gives."""
    stream += b"\n"  # what follows a CR says whether it was half a CR LF
    events, _ = split(data.draw(chunkings(stream)))
    assert [told for event in events if (told := data_of(event)) is not None] == data_by_the_book(stream)


@given(STREAMS, st.data())
def test_no_byte_is_lost_or_made_up(stream, data):
    """All events and the rest together are the bytes that came in."""
    events, rest = split(data.draw(chunkings(stream)))
    assert b"".join(events) + rest == stream


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1)), st.data())
def test_characters_cut_in_half_are_whole_again(texts, data):
    """Text of any language arrives as it was sent, wherever the reads cut its bytes."""
    stream = b"".join(encode(text.encode()) for text in texts)
    events, rest = split(data.draw(chunkings(stream)))
    assert [data_of(event).decode() for event in events] == texts
    assert rest == b""


def test_several_events_in_one_read():
    """One read may hold many events, and each comes out alone, with its blank line."""
    assert Splitter().feed(b"data: 1\n\ndata: 2\n\n: note\n\n") == [b"data: 1\n\n", b"data: 2\n\n", b": note\n\n"]


def test_half_an_event_waits():
    """An event without its blank line is kept until that comes."""
    splitter = Splitter()
    assert splitter.feed(b"data: 1\n\ndata: 2") == [b"data: 1\n\n"]
    assert splitter.feed(b"\n") == []
    assert splitter.feed(b"\n") == [b"data: 2\n\n"]
    assert splitter.rest() == b""


def test_a_cr_at_the_end_may_be_half_a_line_end():
    """After CR LF CR nothing is decided; a following LF belongs to the CR."""
    splitter = Splitter()
    assert splitter.feed(b"data: 1\r\n\r") == []
    assert splitter.feed(b"\ndata: 2\r\r") == [b"data: 1\r\n\r\n"]
    assert splitter.feed(b"x") == [b"data: 2\r\r"]


def test_the_rest_is_told_once():
    """What came after the last event is handed out by `rest`, which leaves nothing behind."""
    splitter = Splitter()
    splitter.feed(b"data: 1")
    assert splitter.rest() == b"data: 1"
    assert splitter.rest() == b""


def test_an_endless_event_is_passed_on_unread():
    """An event over the limit is handed out as it is, and so is all that follows: memory stays flat."""
    splitter = Splitter()
    assert splitter.feed(b"data: 1\n\n" + b"x" * MAX_EVENT_BYTES) == [b"data: 1\n\n"]
    assert not splitter.opaque
    assert splitter.feed(b"y") == [b"x" * MAX_EVENT_BYTES + b"y"]
    assert splitter.opaque
    assert splitter.feed(b"data: 2\n\ndata: 3") == [b"data: 2\n\ndata: 3"]
    assert splitter.rest() == b""


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: a\n\n", b"a"),
        (b"data:a\n\n", b"a"),
        (b"data:  a\n\n", b" a"),
        (b"data: a\r\n\r\n", b"a"),
        (b"data: a\r\r", b"a"),
        (b"event: x\ndata: a\nid: 1\n\n", b"a"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data\n\n", b""),
        (b"data: \n\n", b""),
        (b": comment\n\n", None),
        (b"event: ping\n\n", None),
        (b"dataset: a\n\n", None),
        (b"\n\n", None),
    ],
)
def test_data_of_one_event(event, data):
    """The data lines of an event are joined by LF; comments and other fields are none."""
    assert data_of(event) == data


def test_a_bare_cr_ends_a_line_within_lf_lines():
    """Seen as one data line `[DONE]` with a CR in it, an end would not be known as one."""
    assert data_of(b"data: [DONE]\r\n\n") == b"[DONE]"
    assert data_of(b"data: a\rdata: b\n\n") == b"a\nb"


def test_encode_makes_what_data_of_reads():
    """An encoded event is read back, with a name or without."""
    assert encode(b"{}") == b"data: {}\n\n"
    assert encode(b"{}", "error") == b"event: error\ndata: {}\n\n"
    assert data_of(encode(b"{}", "error")) == b"{}"
