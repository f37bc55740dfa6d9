"""What the client is sent for one request: the replica's bytes, looked at as they pass, in the client's framing."""

from typing import Protocol

from gateway.core.endpoints import Endpoint, Shape
from gateway.core.events import Usage, usage_of
from gateway.core.relay import StreamRelay
from gateway.core.request import RequestFacts
from gateway.core.sse import encode
from gateway.errors import GatewayError, openai_body
from gateway.serving.http import LAST_CHUNK, RequestHead, chunk, error_response, status_line
from gateway.serving.upstream import ResponseHead

READ_ANSWER_BYTES = 256 * 1024
"""An answer that is not streamed is read for its usage up to this size; beyond it, its token counts are not known."""


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
    """One answer on its way. Until `begun`, nothing has left, and another replica may still answer instead."""

    __slots__ = (
        "_answer",
        "_answer_bytes",
        "_chunked",
        "_client",
        "_due",
        "_head",
        "_request",
        "begun",
        "bytes",
        "relay",
        "request_id",
    )

    def __init__(self, client: Client, request: RequestHead, request_id: str) -> None:
        self._client = client
        self._request = request
        self.request_id = request_id
        self.begun = False
        self.bytes = 0
        self.forget()

    def forget(self) -> None:
        """Drop what was prepared for a replica that is not going to answer."""
        self._head: ResponseHead | None = None
        self.relay: StreamRelay | None = None
        """Looks at the events of a streamed answer; `None` for any other."""
        self._chunked = False
        self._answer: list[bytes] = []
        self._answer_bytes = 0
        self._due = b""

    @property
    def prepared(self) -> bool:
        return self._head is not None

    def prepare(self, facts: RequestFacts, head: ResponseHead) -> None:
        """The answer's head has come, which says how its body is passed on."""
        self._head = head
        if head.status == 200 and head.content_type.startswith(b"text/event-stream"):
            self.relay = StreamRelay(facts.endpoint.read, hide_usage=facts.hides_usage)
        if self.relay is not None or (head.content_length is None and head.has_body):
            # HTTP/1.0 knows no chunks: its body ends with the connection.
            self._chunked = not self._request.http10
            self._request.keep_alive = self._request.keep_alive and self._chunked

    @property
    def failed(self) -> str | None:
        """Why the answer has failed, by its own events; `None` while it has not, or has none."""
        return self.relay.failed if self.relay is not None else None

    @property
    def refused(self) -> bool:
        """Whether it failed because of what the client asked."""
        return self.relay is not None and self.relay.refused

    def look(self, data: bytes, *, complete: bool = False) -> bytes:
        """What the client is to get of these body bytes."""
        relay = self.relay
        if relay is not None:
            data = relay.feed(data)
            return data + relay.finish() if complete else data
        self._answer_bytes += len(data)
        if self._answer_bytes <= READ_ANSWER_BYTES:
            self._answer.append(data)
        else:
            self._answer.clear()
        return data

    def begin(self, extra: bytes) -> None:
        """The head, with `extra` lines, goes out with the first bytes of the body that are passed on."""
        self.begun = True
        self._due = self._response_head(extra)

    def pass_on(self, data: bytes, *, ended: bool = False) -> None:
        """One write: the head if it is still due, the bytes, and the end if this is it."""
        if self._chunked:
            data = chunk(data) + LAST_CHUNK if ended else chunk(data)
        if self._due:
            data, self._due = self._due + data, b""
        if data:
            self._write(data)

    def _response_head(self, extra: bytes) -> bytes:
        head = self._head
        assert head is not None
        if self._chunked:
            framing = b"transfer-encoding: chunked\r\n"
        elif self.relay is None and head.content_length is not None:
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

    def usage(self) -> Usage | None:
        """The token counts that the answer reported."""
        if self.relay is not None:
            return self.relay.usage
        if self._answer and self._head is not None and self._head.content_type.startswith(b"application/json"):
            return usage_of(b"".join(self._answer))
        return None

    def finish(self) -> None:
        """All is written: the connection is free for the next request, or closes."""
        self._client.finished(close=not self._request.keep_alive)

    def refuse(self, error: GatewayError, extra: bytes) -> None:
        """The error is the answer: nothing else has been sent. `finish` is still to come."""
        self._write(error_response(error, self.request_id, close=not self._request.keep_alive, extra=extra))

    def break_off(self, endpoint: Endpoint, error: GatewayError) -> None:
        """The answer has begun and cannot be completed: an error event where the client can read one. `finish` then
        closes; the last chunk is not sent, and a content-length stays unmet: the end must not look like one."""
        relay = self.relay
        if relay is not None and not relay.told:
            event = _error_event(endpoint, error)
            self._write(chunk(event) if self._chunked else event)
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
