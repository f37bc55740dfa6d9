"""A stream's token events are alike in all their bytes but the text: the next one is known without being parsed.

An event that was parsed, and is nothing but output, is cut open at its text. Another read with the same bytes before
and behind, and between them a string without a quotation mark, differs from it in the text alone, so that it means the
same. Whatever is not exactly so is parsed as ever.
"""

import re

_TEXT = re.compile(rb'"(?:content|text|reasoning_content|reasoning|delta)"\s*:\s*"((?:[^"\\]|\\.)+)"')
"""A member that holds output, with its value. Within a JSON string its quotation marks would have been escaped."""

MAX_CUTS = 16
"""Streams whose events differ elsewhere (log probabilities, sequence numbers) are not worth more attempts."""


class Stencil:
    """What lies before and behind the text of a stream's token events; fits nothing until `cut`."""

    __slots__ = ("_after", "_before", "_cuts", "_least", "_stop")

    def __init__(self) -> None:
        self._before = b""
        self._after = b""
        self._least = 0
        self._stop = 0
        self._cuts = 0

    def fits(self, data: bytes) -> bool:
        """Whether these bytes are one event that differs from the one cut open in its text alone, and has one."""
        least = self._least
        return (
            0 < least <= len(data)
            and data.startswith(self._before)
            and data.endswith(self._after)
            and data.find(b'"', len(self._before), self._stop) < 0
        )

    def cut(self, event: bytes) -> None:
        """Learn from a whole event with its blank line, which is known to be output and nothing else."""
        if self._cuts >= MAX_CUTS:
            return
        self._cuts += 1
        text = _TEXT.search(event)
        if text is not None and event.endswith(b"\n\n"):
            self._before, self._after = event[: text.start(1)], event[text.end(1) :]
            self._least = len(self._before) + len(self._after) + 1
            self._stop = -len(self._after)
