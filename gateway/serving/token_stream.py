"""The hot path: a stream from its first output to its end, neither of which is its business."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.core.relay import StreamRelay
from gateway.core.slowdown import Pace
from gateway.serving.asking import Asking
from gateway.serving.upstream import UpstreamConnection

if TYPE_CHECKING:
    from gateway.serving.attempt import Attempt


class TokenStream:
    """Hears of a replica's bytes in its attempt's place: one read becomes one write to the client, and one gap (ITL).

    What is not simply more of the answer, its end and whatever goes wrong, is the attempt's.
    """

    __slots__ = ("_attempt", "_client", "_now", "_observe", "_pace", "_patience_s", "_relay", "_reply", "_timeline")

    def __init__(
        self, attempt: "Attempt", asker: Asking, relay: StreamRelay, pace: Pace, observe: Callable[[float], None]
    ) -> None:
        """`observe` is told each gap, in seconds."""
        self._attempt = attempt
        self._relay = relay
        self._reply = asker.reply
        self._client = asker.client
        self._timeline = asker.timeline
        self._pace = pace
        self._observe = observe
        self._now = asker.desk.clock.monotonic
        self._patience_s = asker.desk.limits.idle_timeout_s

    def received(self, upstream: UpstreamConnection) -> None:
        if upstream.complete:
            self._attempt.received(upstream)
            return
        relay = self._relay
        data = relay.feed(upstream.take())
        if relay.failed is not None:
            self._attempt.fail_by_events(data)
            return
        self._reply.pass_on(data)
        now = self._now()
        self._client.deadline = now + self._patience_s
        if relay.output:
            gap = self._timeline.output(now)
            if gap is not None:
                self._observe(gap)
                pace = self._pace
                if now >= pace.next_at:
                    pace.gap(gap, now)

    def stirred(self) -> None:
        """The head of the answer has long been read."""

    def broken(self, upstream: UpstreamConnection, why: str) -> None:
        self._attempt.broken(upstream, why)
