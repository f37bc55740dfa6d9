"""What the client is sent for one request: an answer's bytes in the client's framing, or an error."""

from typing import Protocol

from gateway.core.endpoints import Endpoint, Shape
from gateway.core.sse import encode
from gateway.errors import GatewayError, openai_body
from gateway.serving.answer import Answer
from gateway.serving.http import LAST_CHUNK, RequestHead, chunk, error_response, status_line
from gateway.serving.response_head import ResponseHead


class Client(Protocol):
    """The client's connection. `deadline`: when it wants to hear `expired`, in monotonic seconds."""

    deadline: float
    paused: bool

    def write(self, data: bytes) -> None: ...

    def finished(self, *, close: bool) -> None:
        """The response has ended; with `close` the connection ends after the last byte written."""

    def cut(self) -> None:
        """End the connection at once."""


class Reply:
    """One response on its way. Until `begun`, nothing has left, and another replica may still answer instead."""

    __slots__ = ("_chunked", "_client", "_due", "_request", "begun", "bytes", "request_id", "streams")

    def __init__(self, client: Client, request: RequestHead, request_id: str) -> None:
        self._client = client
        self._request = request
        self.request_id = request_id
        self.begun = False
        self.streams = False
        """Whether the client reads events."""
        self.bytes = 0
        self._chunked = False
        self._due = b""

    def begin(self, answer: Answer, extra: bytes) -> None:
        """The answer's head, with `extra` lines, goes out with the first bytes of the body that are passed on."""
        head = answer.head
        self.begun = True
        self.streams = answer.relay is not None
        if self.streams or (head.content_length is None and head.has_body):
            # HTTP/1.0 knows no chunks: its body ends with the connection.
            self._chunked = not self._request.http10
            self._request.keep_alive = self._request.keep_alive and self._chunked
        self._due = self._response_head(head, extra)

    def pass_on(self, data: bytes, *, ended: bool = False) -> None:
        """One write: the head if it is still due, the bytes, and the end if this is it."""
        if self._chunked:
            data = chunk(data) + LAST_CHUNK if ended else chunk(data)
        if self._due:
            data, self._due = self._due + data, b""
        if data:
            self.bytes += len(data)
            self._client.write(data)

    def _response_head(self, head: ResponseHead, extra: bytes) -> bytes:
        if self._chunked:
            framing = b"transfer-encoding: chunked\r\n"
        elif not self.streams and head.content_length is not None:
            framing = b"content-length: %d\r\n" % head.content_length
        else:
            framing = b""
        return b"%b%b%b%bx-request-id: %b\r\n%b\r\n" % (
            status_line(head.status),
            b"".join(head.lines),
            framing,
            extra,
            self.request_id.encode(),
            b"" if self._request.keep_alive else b"connection: close\r\n",
        )

    def finish(self) -> None:
        """All is written: the connection is free for the next request, or closes."""
        self._client.finished(close=not self._request.keep_alive)

    def refuse(self, error: GatewayError, extra: bytes) -> None:
        """The error is the answer: nothing else has been sent. `finish` is still to come."""
        self._write(error_response(error, self.request_id, close=not self._request.keep_alive, extra=extra))

    def break_off(self, endpoint: Endpoint, error: GatewayError, last_words: bytes) -> None:
        """The answer has begun and cannot be completed: an error event where the client can read one, the replica's own
        if it has said any `last_words`. `finish` then closes; the last chunk is not sent, and a content-length stays
        unmet: the end must not look like one."""
        if self.streams:
            self.pass_on(last_words or _error_event(endpoint, error))
        self._request.keep_alive = False

    def _write(self, data: bytes) -> None:
        self.bytes += len(data)
        self._client.write(data)


def _error_event(endpoint: Endpoint, error: GatewayError) -> bytes:
    """OpenAI's error object as an event. Clients of the Messages and the Responses API look for a name and a type."""
    body = openai_body(error)
    if endpoint.shape in (Shape.MESSAGE, Shape.RESPONSE):
        return encode(b'{"type":"error",%b' % body[1:], "error")
    return encode(body)
