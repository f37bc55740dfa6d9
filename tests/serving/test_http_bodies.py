"""Chunked bodies of requests, and what the gateway writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, Draining
from gateway.serving.http import ChunkedBody, chunk, error_response, status_line
from tests.chunkings import chunkings

# a chunked body

END = b"0\r\n\r\n"


def fed(pieces: list[bytes]) -> ChunkedBody:
    body = ChunkedBody()
    for piece in pieces:
        body.feed(piece)
    return body


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_a_chunked_body_for_any_chunking(parts, data):
    """The pieces are the body, wherever the reads ended, and it is complete with its last chunk only."""
    pieces = data.draw(chunkings(b"".join(map(chunk, parts)) + END))
    body = fed(pieces)
    assert b"".join(body.pieces) == b"".join(parts)
    assert (body.size, body.complete, body.overrun) == (sum(map(len, parts)), True, False)
    while pieces and not pieces[-1]:
        pieces.pop()
    assert not fed(pieces[:-1]).complete


@pytest.mark.parametrize(
    "data", [b"3;a=b\r\nabc\r\n" + END, b"0003\r\nabc\r\n00\r\n\r\n", b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"]
)
def test_extensions_and_trailers_are_passed_over(data):
    """What a client adds to its chunks is no part of the body."""
    body = fed([data])
    assert (body.pieces, body.complete, body.overrun) == ([b"abc"], True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"3\nabc\n0\n\n",
        b"3\r\nabcX\r\n",
        b"3\r\nabc" + END,
        b"g\r\n",
        b"-1\r\n",
        b"0x3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3;\nabc\r\n",
        b'3;a="\r\n"\r\nabc\r\n',
        b"f" * 17 + b"\r\n",
        b"\r\n" + END,
        b"0\r\nContent-Length: 3\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nX\r\n\r\n",
    ],
)
@given(rest=st.data())
def test_malformed_chunks_are_refused(data, rest):
    """Sizes and line ends that another reader could read otherwise are the client's mistake, for any chunking."""
    with pytest.raises(BadRequest, match="malformed"):
        fed(rest.draw(chunkings(data)))


@pytest.mark.parametrize(
    "rest",
    [
        b"P",
        b"POST / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc",
        b"\0",
        END,
        b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nxyz",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    ],
)
def test_bytes_behind_the_body_are_noticed(rest):
    """A pipelined request that offered an upgrade raised out of the connection; like garbage, it overruns the body."""
    for pieces in ([b"3\r\nabc\r\n" + END + rest], [b"3\r\nabc\r\n" + END, rest]):
        body = fed(pieces)
        assert (body.pieces, body.size, body.complete, body.overrun) == ([b"abc"], 3, True, True)


def test_an_empty_line_behind_the_body_is_no_request():
    """Old clients end a body with one line end too many."""
    assert not fed([END + b"\r\n"]).overrun


@given(st.binary(max_size=60))
def test_no_chunked_body_raises_anything_but_bad_request(data):
    """Any bytes are read or refused."""
    try:
        fed([data])
    except BadRequest:
        pass


# writing


@pytest.mark.parametrize(
    ("status", "line"),
    [(200, b"HTTP/1.1 200 OK\r\n"), (429, b"HTTP/1.1 429 Too Many Requests\r\n"), (599, b"HTTP/1.1 599 \r\n")],
)
def test_status_lines(status, line):
    """A status that HTTP does not know has an empty phrase."""
    assert status_line(status) == line


def test_chunks():
    """Sizes are hexadecimal, and no bytes are no chunk, since an empty one would be the end."""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert chunk(b"") == b""


def test_an_error_response_is_whole():
    """Length, id, Retry-After, extra lines and the close are in the head, and the body is OpenAI's object."""
    response = error_response(Draining("bye", retry_after_s=1), "id-1", close=True, extra=b"x-a: 1\r\n")
    lines, _, body = response.partition(b"\r\n\r\n")
    assert lines.split(b"\r\n") == [
        b"HTTP/1.1 503 Service Unavailable",
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"x-request-id: id-1",
        b"retry-after: 1",
        b"x-a: 1",
        b"connection: close",
    ]
    assert body.startswith(b'{"error":{"message":"bye"')


def test_an_error_response_may_keep_the_connection():
    """Without a reason to close or to wait, neither is said."""
    response = error_response(BadRequest("no"), "id-1", close=False)
    assert b"connection:" not in response
    assert b"retry-after:" not in response
