"""Answers that pages of other origins may read (CORS). Where no origin is allowed, none of this runs.

Source: the Fetch standard, "HTTP CORS protocol". Preflights, which are no relayed requests, are the cold paths' part.
"""

import asyncio
from collections.abc import Callable, Collection

from gateway.core.endpoints import Endpoint
from gateway.serving.desk import Desk
from gateway.serving.front import Front
from gateway.serving.http import RequestHead
from gateway.serving.watchdog import Watchdog


class CorsFront(Front):
    """A front that tells in the head of each answer whether the page that asked may read it."""

    def __init__(
        self,
        origins: Collection[str],
        desk: Desk,
        watchdog: Watchdog,
        connections: set[Front],
        ids: Callable[[], str],
        other: Callable[[], asyncio.Protocol],
    ) -> None:
        super().__init__(desk, watchdog, connections, ids, other)
        self._origins = {origin.encode() for origin in origins}
        self._grant: bytes | None = None
        """Header lines for the head that is next to be written; `None` while a body is written."""

    def write(self, data: bytes) -> None:
        if self._grant is not None:
            data, self._grant = granted(data, self._grant), None
        super().write(data)

    def _read_body(self, endpoint: Endpoint, head: RequestHead, data: bytes) -> None:
        self._grant = grant(self._origins, head.origin)
        super()._read_body(endpoint, head, data)


def grant(allowed: Collection[bytes], origin: bytes) -> bytes:
    """The header lines that let a page of `origin` read an answer; none when it may not, or it was no page."""
    if b"*" in allowed and origin:
        return b"access-control-allow-origin: *\r\naccess-control-expose-headers: *\r\n"
    if origin in allowed:
        return b"access-control-allow-origin: %b\r\naccess-control-expose-headers: *\r\nvary: Origin\r\n" % origin
    return b""


def granted(answer: bytes, lines: bytes) -> bytes:
    """The answer, which begins with its head, with these lines in place of what the replica said on the matter."""
    head, end, body = answer.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"access-control-")]
    return b"%b\r\n%b%b%b" % (b"\r\n".join(kept), lines, end[2:], body)
