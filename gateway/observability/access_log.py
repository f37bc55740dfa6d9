"""One JSON line per request, when it ends. Never prompts, answers or keys."""

from collections.abc import Callable

import msgspec

from gateway.observability.records import RequestRecord

MAX_WAITING_LINES = 100_000
"""Lines beyond this are dropped and counted: a reader of the log that stands still must not eat the memory."""


class AccessLog:
    """Collects lines on the hot path; `flush` writes them out, and may block where the loop may not."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lines: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode
        self.dropped = 0

    def add(self, record: RequestRecord) -> None:
        if len(self._lines) >= MAX_WAITING_LINES:
            self.dropped += 1
        else:
            self._lines.append(self._encode(record))

    @property
    def waiting(self) -> bool:
        """Whether there is anything to flush."""
        return bool(self._lines)

    def flush(self) -> None:
        """Write what has been collected; safe to call from another thread than `add`."""
        # The list stays the same one: `add` may be about to append to it. Each step here is atomic.
        lines = self._lines[:]
        del self._lines[: len(lines)]
        if lines:
            lines.append(b"")
            self._write(b"\n".join(lines))
