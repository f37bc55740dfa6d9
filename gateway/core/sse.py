"""Server-sent events out of bytes, for any chunking; the bytes themselves are kept as they came.

Source: WHATWG HTML, "Server-sent events": lines end in CR LF, LF or CR; a blank line ends an event; `:` is a comment.
"""

import re

MAX_EVENT_BYTES = 1 << 20
"""An event that has not ended after this many bytes is passed on unread: memory stays flat, whatever comes."""

# A CR at the end of what has come so far may be half a CR LF: it ends no line before the next byte is seen.
_LINE_END = rb"(?:\r\n|\n|\r(?=[^\n]))"
_EVENT_END = re.compile(_LINE_END + _LINE_END)
_LINES = re.compile(rb"\r\n|\n|\r")


class Splitter:
    """Cuts a stream into whole events. The bytes of all events and of `rest()` together are the bytes that came in."""

    __slots__ = ("_scanned", "_tail", "opaque")

    def __init__(self) -> None:
        self._tail = b""
        self._scanned = 0
        self.opaque = False
        """True after an event over `MAX_EVENT_BYTES`: from there on bytes are handed out without being events."""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that ended with these bytes, each with its blank line. Half an event is kept for the next call."""
        if self.opaque:
            return [data]
        if self._tail:
            data = self._tail + data
        # The usual read: whole events, LF only, nothing left over.
        if data.endswith(b"\n\n") and b"\r" not in data:
            self._tail = b""
            self._scanned = 0
            if data.find(b"\n\n") == len(data) - 2:
                return [data]
            return [event + b"\n\n" for event in data[:-2].split(b"\n\n")]
        return self._cut(data)

    @property
    def holds(self) -> bool:
        """Whether what comes next does not begin an event: half of one is here, or events are not told apart."""
        return self.opaque or self._tail != b""

    def _cut(self, data: bytes) -> list[bytes]:
        events = []
        start = 0
        # The last three bytes of an earlier read can still be the beginning of a blank line.
        for match in _EVENT_END.finditer(data, max(0, self._scanned - 3)):
            events.append(data[start : match.end()])
            start = match.end()
        self._tail = data[start:]
        self._scanned = len(self._tail)
        if len(self._tail) > MAX_EVENT_BYTES:
            self.opaque = True
            events.append(self.rest())
        return events

    def rest(self) -> bytes:
        """What came after the last whole event; the splitter is empty afterwards."""
        tail, self._tail, self._scanned = self._tail, b"", 0
        return tail


def data_of(event: bytes) -> bytes | None:
    """The event's data, its lines joined by LF; `None` for comments and events without data."""
    # The usual event: one line of data, LF only.
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]
    lines = [_value(line) for line in _LINES.split(event) if line == b"data" or line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def _value(line: bytes) -> bytes:
    value = line[5:]
    return value[1:] if value.startswith(b" ") else value


def encode(data: bytes, event: str | None = None) -> bytes:
    """One event as bytes; `data` must hold no line break."""
    name = b"event: %b\n" % event.encode() if event else b""
    return b"%bdata: %b\n\n" % (name, data)
