"""The relay's eyes: looks at a stream of events as it passes and says what may go on to the client.

It changes nothing but two things: an event that only exists because the gateway asked for usage is kept back, and so is
everything from the point on at which the replica's answer has failed.
"""

from gateway.core.events import OUTPUT, Reader, Usage
from gateway.core.sse import Splitter, data_of
from gateway.core.stencil import Stencil


class StreamRelay:
    """One streamed answer. Feed it what the replica sends, send on what it returns.

    Only whole events are returned: half an event is of no use to a client, and an error event must never land inside
    another event.
    """

    __slots__ = (
        "_at_event",
        "_hide_usage",
        "_read",
        "_splitter",
        "_stencil",
        "code",
        "ended",
        "failed",
        "last_words",
        "output",
        "usage",
    )

    def __init__(self, read: Reader, *, hide_usage: bool) -> None:
        self._read = read
        self._hide_usage = hide_usage
        self._splitter = Splitter()
        self._stencil = Stencil()
        self._at_event = True
        """Whether what comes next begins an event, and may be shown; kept, so that a chunk has one thing to ask."""
        self.output = False
        """Whether the last `feed` held generated output."""
        self.ended = False
        """Whether the answer came to its proper end: a finish reason, a closing event or `[DONE]`."""
        self.usage: Usage | None = None
        self.failed: str | None = None
        """Why the answer failed, as far as its events tell; `None` while it has not."""
        self.last_words = b""
        """The error event by which the replica itself told of the failure; it is not handed on."""
        self.code: int | None = None
        """The 4xx code in that event: it failed because of what the client asked, and another would say the same."""

    def feed(self, data: bytes) -> bytes:
        """The bytes to hand on to the client now; may be empty."""
        if self._at_event:
            shown = self._known(data)
            if shown is not None:
                self.output = True
                return shown
        return self._study(data)

    def _known(self, event: bytes) -> bytes | None:
        """What the client is to see of an event that is output like those before it; `None` if it has to be parsed."""
        return self._stencil.read(event)

    def _study(self, data: bytes) -> bytes:
        self.output = False
        if self.failed is not None:
            return b""
        events = self._splitter.feed(data)
        if self._splitter.opaque:
            self.ended = self.output = True
            shown = b"".join(events)
        else:
            shown = b"".join([self._pass(event) for event in events])
        self._at_event = not self._splitter.holds and self.failed is None
        return shown

    def _pass(self, event: bytes) -> bytes:
        """What the client is to see of one event among others, or of one that came in parts."""
        if self.failed is None:
            shown = self._known(event)
            if shown is not None:
                self.output = True
                return shown
        return self._show(event) if self._look(event) else b""

    def _look(self, event: bytes) -> bool:
        """Learn from one event; whether the client is to see it."""
        if self.failed is not None:
            return False
        data = data_of(event)
        if data is None:
            return True
        signal = self._read(data)
        if signal is OUTPUT:
            self.output = True
            self._learn(event)
            return True
        if signal.output:
            self.output = True
        if signal.usage is not None:
            self.usage = signal.usage
        if signal.error is not None:
            self.failed = signal.error
            self.code = signal.code
            self.last_words = event
            return False
        if signal.aborted:
            self.failed = "the replica stopped before the answer was complete"
            return False
        if signal.finished:
            self.ended = True
        return not (signal.usage_only and self._hide_usage)

    def _learn(self, event: bytes) -> None:
        """An event that is output and nothing else: the next ones will look like it."""
        self._stencil.cut(event)

    def _show(self, event: bytes) -> bytes:
        """An event as the client is to see it."""
        return event

    def finish(self) -> bytes:
        """The replica's stream has ended: what is left of it. Sets `failed` if the answer is not complete."""
        rest = self._splitter.rest()
        if self.failed is None and not self.ended:
            self.failed = "the replica's stream ended before the answer was complete"
        return b"" if self.failed is not None else rest
