"""Heads of messages, read and written; httptools does the parsing, and is strict."""

from http import HTTPStatus

import httptools

from gateway.errors import BadRequest, BodyTooLarge, ExpectationFailed, GatewayError, HeadersTooLarge, openai_body

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
MAX_HEAD_BYTES = 64 * 1024
MAX_DEADLINE_MS = 86_400_000

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

_NEVER_FORWARDED = frozenset(
    (
        # hop by hop: RFC 9110, 7.6.1
        b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection", b"te",
        b"trailer", b"upgrade", b"expect", b"http2-settings",
        # the client's credentials
        b"authorization", b"x-api-key", b"api-key", b"cookie", b"proxy-authorization",
        # a compressed answer could not be looked into
        b"accept-encoding",
        # the gateway writes its own, and answers for other origins itself
        b"x-request-id", b"origin",
    )
)  # fmt: skip
_READ = _NEVER_FORWARDED | {b"content-type", b"x-session-id"}
_MAX_REQUEST_ID = 128


class RequestHead:
    """One request's head, as httptools reports it. `lines`: the header lines that go on to a replica, as they came."""

    __slots__ = (
        "chunked",
        "class_",
        "connection",
        "content_length",
        "content_type",
        "continues",
        "deadline_s",
        "explains",
        "http10",
        "keep_alive",
        "lines",
        "method",
        "origin",
        "request_id",
        "session",
        "target",
        "url",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        """As the request line has it."""
        self.url = b""
        """Its path and query: what a replica is asked for."""
        self.http10 = False
        self.keep_alive = True
        self.lines: list[bytes] = []
        self.connection = b""
        self.content_length: int | None = None
        self.chunked = False
        self.continues = False
        self.content_type = b""
        self.origin = b""
        self.request_id: str | None = None
        self.class_: str | None = None
        self.session: str | None = None
        self.explains = False
        self.deadline_s: float | None = None
        """Seconds after its first byte at which the client does not want an answer any more."""

    @property
    def path(self) -> bytes:
        """The URL's path, without its query."""
        path, _, _ = self.url.partition(b"?")
        return path

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key in _READ:
            self._note(key, value)
            if key in _NEVER_FORWARDED:
                return
        elif key.startswith(b"x-gateway-"):
            if key == b"x-gateway-class":
                self.class_ = value.lower().decode("latin-1")
            elif key == b"x-gateway-deadline-ms":
                self.deadline_s = _deadline_s(value)
            elif key == b"x-gateway-explain":
                self.explains = value.strip() == b"1"
            return
        self.lines.append(b"%b: %b\r\n" % (name, value))

    def _note(self, key: bytes, value: bytes) -> None:
        if key == b"content-length":
            self.content_length = int(value)
        elif key == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise BadRequest("transfer-encoding: only chunked is understood", param="transfer-encoding")
            self.chunked = True
        elif key == b"expect":
            if value.lower() != b"100-continue":
                raise ExpectationFailed("expect: only 100-continue is understood", param="expect")
            self.continues = True
        elif key == b"x-request-id" and len(value) <= _MAX_REQUEST_ID and value.isascii():
            self.request_id = value.decode()
        elif key == b"content-type":
            self.content_type = value
        elif key == b"x-session-id":
            self.session = value.decode("latin-1")
        elif key == b"origin":
            self.origin = value
        elif key == b"connection":
            self.connection = b"%b,%b" % (self.connection, value) if self.connection else value

    def end(self, version: str) -> None:
        """All lines have been seen. httptools' own word on keep-alive is lost when a message without body ends.

        Raises `BadRequest`.
        """
        self.url = self.target if self.target.startswith(b"/") else origin_form(self.target)
        if version == "1.1" and self.connection in (b"", b"keep-alive"):
            return
        self.http10 = version == "1.0"
        options = [option.strip() for option in self.connection.lower().split(b",")]
        wanted = version == "1.1" or (self.http10 and b"keep-alive" in options and not self.chunked)
        self.keep_alive = wanted and b"close" not in options
        # `Connection` may name more headers that are meant for this hop only, before it or behind it.
        named = tuple(option + b":" for option in options if option not in (b"", b"close", b"keep-alive"))
        if named:
            self.lines = [line for line in self.lines if not line.lower().startswith(named)]


def _deadline_s(value: bytes) -> float:
    if not value.isdigit() or not 0 < int(value) <= MAX_DEADLINE_MS:
        raise BadRequest(
            f"x-gateway-deadline-ms: expected a whole number of milliseconds from 1 to {MAX_DEADLINE_MS}",
            param="x-gateway-deadline-ms",
        )
    return int(value) / 1000


def read_head(data: bytes) -> RequestHead:
    """The head in `data`, which must end with its blank line. Raises `BadRequest`."""
    head = RequestHead()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # an offer that the gateway does not take up
    except httptools.HttpParserCallbackError as error:
        if isinstance(error.__context__, GatewayError):
            raise error.__context__ from None
        raise
    except httptools.HttpParserError as error:
        raise BadRequest(f"this is not a valid HTTP request: {error}") from None
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise BadRequest(f"HTTP/{version} is not spoken here")
    head.method = parser.get_method()
    head.end(version)
    return head


def origin_form(target: bytes) -> bytes:
    """The path and query of a target in absolute form (RFC 9112, 3.2.2), whatever its host; any other as it is.

    Raises `BadRequest`.
    """
    if b"://" not in target:
        return target
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise BadRequest("this is not a valid HTTP request: its target is no URL") from None
    path = url.path or b"/"
    return path if url.query is None else b"%b?%b" % (path, url.query)


class SizedBody:
    """A request body of a known length, as far as it has come; `rest` is what followed it."""

    def __init__(self, length: int) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self.rest = b""
        self.overrun = False
        self._length = length

    @property
    def complete(self) -> bool:
        return self.size == self._length

    def feed(self, data: bytes) -> None:
        missing = self._length - self.size
        self.rest = data[missing:]
        piece = data[:missing]
        self.pieces.append(piece)
        self.size += len(piece)


class ChunkedBody:
    """A chunked request body, decoded. `pieces` is what has come, `complete` whether its last chunk was among it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self.complete = False
        self.rest = b""
        self.overrun = False
        """Whether bytes followed the body; where they begin is not told."""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")

    def feed(self, data: bytes) -> None:
        """Raises `BadRequest` when the chunks are malformed."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.overrun = True  # only a request behind the body can offer one
        except httptools.HttpParserError as error:
            if not self.complete:
                raise BadRequest(f"the chunked body is malformed: {error}") from None
            self.overrun = True

    def on_message_begin(self) -> None:
        self.overrun = self.complete

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.pieces.append(data)
            self.size += len(data)

    def on_message_complete(self) -> None:
        self.complete = True


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def chunk(data: bytes) -> bytes:
    """The bytes as one HTTP chunk; nothing for no bytes, since an empty chunk is the end."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def error_response(error: GatewayError, request_id: str, *, close: bool, extra: bytes = b"") -> bytes:
    """A whole response in OpenAI's shape."""
    body = openai_body(error)
    retry = b"retry-after: %d\r\n" % error.retry_after_s if error.retry_after_s is not None else b""
    return b"%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b%b%b\r\n%b" % (
        status_line(error.status),
        len(body),
        request_id.encode(),
        retry,
        extra,
        b"connection: close\r\n" if close else b"",
        body,
    )


def head_too_large() -> HeadersTooLarge:
    return HeadersTooLarge(f"the request's headers are larger than {MAX_HEAD_BYTES} bytes")


def body_too_large(size: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body has {size} bytes or more; server.max_body_bytes is {limit}")
