"""A replica's answer as it passes: its head, and what its body says of itself."""

from gateway.core.carry import Carry
from gateway.core.continuation import Continuation
from gateway.core.events import Usage, usage_of
from gateway.core.relay import StreamRelay
from gateway.core.request import RequestFacts
from gateway.core.tracked import TrackedRelay
from gateway.serving.response_head import ResponseHead

READ_ANSWER_BYTES = 256 * 1024
"""An answer that is not streamed is read for its usage up to this size; beyond it, its token counts are not known."""


class Answer:
    """One replica's answer. `relay`: what looks at its events; `None` for an answer that is not a stream."""

    __slots__ = ("_pieces", "_size", "head", "relay")

    def __init__(self, head: ResponseHead, facts: RequestFacts, relay: StreamRelay | None = None) -> None:
        self.head = head
        self.relay: StreamRelay | None = None
        if head.streams:
            self.relay = relay or StreamRelay(facts.endpoint.read, hide_usage=facts.hides_usage)
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def failed(self) -> str | None:
        """Why the answer has failed, by its own events; `None` while it has not, or has none."""
        return self.relay.failed if self.relay is not None else None

    @property
    def last_words(self) -> bytes:
        """The error event by which the replica told of the failure; none if it did not."""
        return self.relay.last_words if self.relay is not None else b""

    @property
    def refusal(self) -> int | None:
        """The 4xx code with which its events refuse the request itself: another replica would say the same."""
        return self.relay.code if self.relay is not None else None

    @property
    def carry(self) -> Carry | None:
        """What another replica needs to go on with it; `None` if none can."""
        relay = self.relay
        return relay.carry if isinstance(relay, TrackedRelay | Continuation) and relay.carry.ready else None

    @property
    def ended(self) -> bool:
        """Whether its finish reason was told."""
        return self.relay is not None and self.relay.ended

    def look(self, data: bytes, *, complete: bool = False) -> bytes:
        """What the client is to get of these body bytes."""
        relay = self.relay
        if relay is not None:
            data = relay.feed(data)
            return data + relay.finish() if complete else data
        self._size += len(data)
        if self._size <= READ_ANSWER_BYTES:
            self._pieces.append(data)
        else:
            self._pieces.clear()
        return data

    def usage(self) -> Usage | None:
        """The token counts that it reported."""
        if self.relay is not None:
            return self.relay.usage
        if self._pieces and self.head.content_type.startswith(b"application/json"):
            return usage_of(b"".join(self._pieces))
        return None
