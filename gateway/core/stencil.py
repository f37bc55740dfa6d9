"""A stream's token events are alike in all their bytes but the text: the next one is known without being parsed.

An event that was parsed, and is nothing but output, is cut open at its text. Another one with the same bytes before and
behind, and between them one string of JSON, differs from it in the text alone, so that it means the same. Whatever is
not exactly so is parsed as ever.
"""

import re

_TEXT = re.compile(rb'"(?:content|text|reasoning_content|reasoning|delta)"\s*:\s*"((?:[^"\\]|\\.)+)"')
"""A member that holds output, with its value. Within a JSON string its quotation marks would have been escaped."""

_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*')
"""The inside of a string, up to the quotation mark that ends it."""

_BACKSLASH = 0x5C

_IDS = re.compile(rb'"token_ids"\s*:\s*(\[([\d,\s]*)\])')
"""The member that vLLM fills for `return_token_ids`. Within a JSON string its quotation marks would be escaped."""

_TOLD_IDS = re.compile(rb'("(?:prompt_)?token_ids"\s*:\s*)\[[\d,\s]*\]')

MAX_CUTS = 16
"""Streams whose events differ elsewhere (log probabilities, sequence numbers) are not worth more attempts."""


def _text_end(data: bytes, start: int) -> int:
    """Where the string whose inside begins at `start` ends; -1 or the end of all if it does not."""
    end = data.find(b'"', start)
    if end > start and data[end - 1] == _BACKSLASH:  # an escaped mark, or the end of a text that ends in a backslash
        match = _STRING.match(data, start)
        assert match is not None  # it matches anything
        end = match.end()
    return end


class Stencil:
    """What lies before and behind the text of a stream's token events; fits nothing until `cut`."""

    __slots__ = ("_after", "_before", "_cuts", "_least")

    def __init__(self) -> None:
        self._before = b""
        self._after = b""
        self._least = 0
        self._cuts = 0

    def read(self, data: bytes) -> bytes | None:
        """The bytes, if they are one event that differs from the one cut open in its text alone, and has one."""
        if not 0 < self._least <= len(data) or not data.startswith(self._before) or not data.endswith(self._after):
            return None
        end = len(data) - len(self._after)
        mark = data.find(b'"', len(self._before))
        if mark != end or data[end - 1] == _BACKSLASH:  # more than one string, or a mark that may be escaped
            return data if _text_end(data, len(self._before)) == end else None
        return data

    def text_in(self, event: bytes) -> bytes:
        """The text of an event that fits, as it stands between its quotation marks."""
        return event[len(self._before) : len(event) - len(self._after)]

    def cut(self, event: bytes) -> None:
        """Learn from a whole event with its blank line, which is known to be output and nothing else."""
        if self._cuts >= MAX_CUTS:
            return
        self._cuts += 1
        text = _TEXT.search(event)
        if text is not None and event.endswith(b"\n\n"):
            self._before, self._after = event[: text.start(1)], event[text.end(1) :]
            self._least = len(self._before) + len(self._after) + 1


class IdsStencil:
    """The same for events that tell the ids of their tokens behind their text: `read` takes both out."""

    __slots__ = ("_after", "_before", "_cuts", "_least", "_middle", "_rest", "_show")

    def __init__(self, *, show: bool) -> None:
        """`show`: whether the client asked for the ids itself."""
        self._before = self._middle = self._after = self._rest = b""
        self._least = self._cuts = 0
        self._show = show

    def read(self, data: bytes) -> tuple[bytes, bytes, bytes] | None:
        """Text, ids, and the bytes that the client is to get; `None` if these bytes are not one such event."""
        if not 0 < self._least <= len(data) or not data.startswith(self._before) or not data.endswith(self._after):
            return None
        start = len(self._before)
        end = _text_end(data, start)
        if end <= start or not data.startswith(self._middle, end):
            return None
        ids = data[end + len(self._middle) : -len(self._after)]
        if not ids.isdigit() and not ids.replace(b",", b"").isdigit():
            return None
        return data[start:end], ids, data if self._show else data[:end] + self._rest

    def cut(self, event: bytes) -> None:
        """Learn from a whole event with its blank line, which is known to be output and nothing else."""
        if self._cuts >= MAX_CUTS:
            return
        self._cuts += 1
        text = _TEXT.search(event)
        ids = _IDS.search(event, text.end()) if text is not None else None
        if text is not None and ids is not None and event.endswith(b"\n\n"):
            self._before, self._after = event[: text.start(1)], event[ids.end(2) :]
            self._middle = event[text.end(1) : ids.start(2)]
            self._rest = event[text.end(1) : ids.start(1)] + b"null" + event[ids.end(1) :]
            self._least = len(self._before) + len(self._middle) + len(self._after) + 2


def without_ids(event: bytes) -> bytes:
    """The event as it is for a client that did not ask for token ids: vLLM then says `null` in their place."""
    return _TOLD_IDS.sub(rb"\1null", event)
