from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, ExpectationFailed
from gateway.serving.http import RequestHead, read_head


def head(*lines: bytes, version: bytes = b"1.1") -> RequestHead:
    return read_head(b"\r\n".join([b"POST /v1/chat/completions HTTP/" + version, *lines, b"", b""]))


# the head of a request


def test_a_head_is_read():
    """Method, target, length and type are known, and the path is the target without its query."""
    told = head(b"Content-Length: 12", b"Content-Type: application/json; x=y")
    assert (told.method, told.content_length, told.chunked) == (b"POST", 12, False)
    assert told.content_type == b"application/json; x=y"
    assert read_head(b"POST /v1/a?b=c&d?e HTTP/1.1\r\n\r\n").path == b"/v1/a"
    assert read_head(b"POST /v1/a?b=c HTTP/1.1\r\n\r\n").url == b"/v1/a?b=c"


@pytest.mark.parametrize(
    ("target", "url"),
    [
        (b"/v1/a?b=http://c", b"/v1/a?b=http://c"),
        (b"http://h/v1/a?b=c", b"/v1/a?b=c"),
        (b"HTTP://h:80//v1/a%20b?", b"//v1/a%20b"),
        (b"https://u@h", b"/"),
        (b"http://h?b", b"/?b"),
        (b"*", b"*"),
    ],
)
def test_a_target_in_absolute_form_is_its_path(target, url):
    """And its query; the target stays as it came, for who reads the bytes again."""
    head = read_head(b"OPTIONS %b HTTP/1.1\r\n\r\n" % target)
    assert (head.url, head.target) == (url, target)


@pytest.mark.parametrize(
    ("version", "lines", "http10", "keep_alive"),
    [
        (b"1.1", [], False, True),
        (b"1.1", [b"Connection: close"], False, False),
        (b"1.1", [b"Connection: x-a, Close"], False, False),
        (b"1.1", [b"Connection: close", b"Content-Length: 5"], False, False),
        (b"1.0", [], True, False),
        (b"1.0", [b"Connection: Keep-Alive"], True, True),
        (b"1.0", [b"Connection: keep-alive", b"Connection: close"], True, False),
        (b"1.0", [b"Connection: keep-alive", b"Transfer-Encoding: chunked"], True, False),
    ],
)
def test_whether_the_connection_stays(version, lines, http10, keep_alive):
    """A client that said `close` in a request without a body waited for the end of its connection in vain."""
    told = head(*lines, version=version)
    assert (told.http10, told.keep_alive) == (http10, keep_alive)


def test_an_offer_to_upgrade_is_not_taken_up():
    """A request that offers another protocol is read as the HTTP/1.1 request that it is."""
    told = head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", b"X-A: 1")
    assert told.lines == [b"X-A: 1\r\n"]


SMUGGLED = [
    [b"Content-Length: 5", b"Content-Length: 5"],
    [b"Content-Length: 5", b"Content-Length: 6"],
    [b"Content-Length: 5, 5"],
    [b"Content-Length:"],
    [b"Content-Length: +5"],
    [b"Content-Length: -5"],
    [b"Content-Length: 0x5"],
    [b"Content-Length: 1_0"],
    [b"Content-Length: 5 5"],
    [b"Content-Length: " + b"9" * 30],
    [b"Content-Length: " + b"9" * 5000],
    [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    [b"Transfer-Encoding: gzip, chunked"],
    [b"Transfer-Encoding: chunked, gzip"],
    [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
    [b"Transfer-Encoding: identity"],
    [b"Transfer-Encoding: xchunked"],
    [b'Transfer-Encoding: "chunked"'],
    [b"Transfer-Encoding:"],
    [b"Transfer-Encoding:\x0bchunked"],
    [b"Transfer-Encoding:", b" chunked"],
    [b"Transfer-Encoding : chunked"],
    [b"Content-Length : 5"],
    [b"X-A: a", b" folded: b"],
    [b"X-A: a", b"\tfolded"],
    [b" X-A: a"],
    [b"X-A: a\nX-B: b"],
    [b"X-A: a\rX-B: b"],
    [b"X-A: a\r\rX-B: b"],
    [b"X-A: a\0b"],
    [b"X-\0A: b"],
    [b"X-A: \x01"],
    [b"X-A: \x7f"],
    [b"X\xffA: b"],
    [b"X A: b"],
    [b"X-A"],
    [b": b"],
]


@pytest.mark.parametrize("lines", SMUGGLED, ids=lambda lines: repr(b"|".join(lines))[2:50])
def test_a_head_that_two_readers_could_read_in_two_ways_is_refused(lines):
    """Doubtful lengths, codings, line ends and names never get as far as a replica."""
    with pytest.raises(BadRequest) as caught:
        head(*lines)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "line",
    [
        b"GARBAGE /x HTTP/1.1",
        b"post /x HTTP/1.1",
        b"POST /a b HTTP/1.1",
        b"POST /\xff HTTP/1.1",
        b"POST /\0 HTTP/1.1",
        b"POST /x HTTP/3.0",
        b"POST /x HTTP/1.1 ",
        b"POST /x HTTP/1.1\nX-A: b",
        b"HTTP/1.1 200 OK",
        b"\x16\x03\x01\x02",
    ],
)
def test_a_wrong_request_line_is_refused(line):
    """What is no request line of HTTP/1 is answered with 400, TLS on the wrong port included."""
    with pytest.raises(BadRequest):
        read_head(line + b"\r\n\r\n")


@given(st.binary(max_size=60) | st.lists(st.sampled_from(SMUGGLED), max_size=3).map(lambda x: b"\r\n".join(chain(*x))))
def test_no_head_raises_anything_but_bad_request(noise):
    """Whatever bytes a client sends, they are read or refused."""
    for data in (noise + b"\r\n\r\n", b"POST / HTTP/1.1\r\n" + noise + b"\r\n\r\n"):
        try:
            read_head(data)
        except BadRequest:
            pass


def test_only_one_expectation_is_understood():
    """`100-continue` in any case is met, anything else is refused with 417."""
    assert head(b"Expect: 100-Continue").continues
    with pytest.raises(ExpectationFailed):
        head(b"Expect: miracles")


# what goes on to a replica

SECRETS = [b"Authorization", b"X-Api-Key", b"API-Key", b"Cookie", b"Proxy-Authorization"]
HOP_BY_HOP = [b"Host", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Upgrade", b"HTTP2-Settings"]
OWN = [b"X-Request-Id", b"X-Gateway-Class", b"X-Gateway-Anything", b"Accept-Encoding"]


@pytest.mark.parametrize("name", SECRETS + HOP_BY_HOP + OWN)
@pytest.mark.parametrize("spelt", [bytes.lower, bytes.upper, bytes.title])
def test_what_is_not_a_replicas_business_stays_here(name, spelt):
    """Credentials, this hop's headers and the gateway's own never go on, however they are spelt."""
    assert head(b"Accept: */*", spelt(name) + b": x", b"X-B: 2").lines == [b"Accept: */*\r\n", b"X-B: 2\r\n"]


def test_framing_is_written_anew():
    """Length, coding and expectation are the client's hop's own."""
    assert head(b"Content-Length: 5", b"Expect: 100-continue").lines == []
    told = head(b"Transfer-Encoding: Chunked")
    assert told.chunked
    assert told.lines == []


def test_other_headers_go_on_as_they_came():
    """Order, case, repetition and bytes beyond ASCII are kept."""
    lines = [b"traceparent: 00-1-2-01", b"X-A: \xc3\xa9", b"x-a: 2", b"Content-Type: text/plain", b"X-Empty: "]
    assert head(*lines).lines == [line + b"\r\n" for line in lines]


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-Hop: 1", b"Connection: X-HOP"],
        [b"Connection: x-hop", b"X-Hop: 1"],
        [b"X-Hop: 1", b"Connection: close, x-hop ,,", b"x-hop: 2"],
        [b"Connection: keep-alive", b"Connection: x-hop", b"X-Hop: 1"],
    ],
)
def test_what_connection_names_is_dropped(lines):
    """A header that `Connection` names went on to the replica when it stood behind it."""
    assert head(*lines, b"X-Hopper: 3").lines == [b"X-Hopper: 3\r\n"]


@given(
    st.permutations(
        [b"Connection: x-hop, close", b"X-Hop: 1", b"Authorization: Bearer s", b"x-api-key: s", b"Cookie: s"]
    )
)
def test_no_order_of_lines_lets_a_secret_through(lines):
    """Neither credentials nor named headers go on, in whatever order they come."""
    assert head(*lines, b"X-A: 1").lines == [b"X-A: 1\r\n"]


@pytest.mark.parametrize(
    ("value", "request_id"),
    [(b"abc-1", "abc-1"), (b"x" * 128, "x" * 128), (b"x" * 129, None), (b"\xe9", None), (b"", "")],
)
def test_a_request_id_is_taken_if_it_is_short_and_plain(value, request_id):
    """An id that is too long, or not ASCII, is replaced by our own."""
    assert head(b"X-Request-Id: " + value).request_id == request_id


def test_the_class_is_read_in_any_case():
    """`x-gateway-class` asks for a class; without it there is none."""
    assert head(b"X-Gateway-Class: Batch").class_ == "batch"
    assert head(b"X-Gateway-Other: Batch").class_ is None
