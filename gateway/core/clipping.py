"""Prompts of many megabytes, cut before they are read: what is not hashed need not be decoded."""

import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from gateway.core.bodies import ABSENT, LooseTurn, Turn
from gateway.core.prefix import MAX_HASHED_BYTES

LONG_BYTES = MAX_HASHED_BYTES
"""JSON up to this size is read whole; of what is longer so much is read."""

_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
_UNICODE_ESCAPE_BYTES = 6
_FIRST_CONTENT = re.compile(rb'"content"\s*:\s*(.)')
_TEXT_FIRST = re.compile(rb'\s*\{\s*(?:"type"\s*:\s*"(?:input_)?text"\s*,\s*)?"text"\s*:')
_HEAD_BYTES = 200

Content = msgspec.Raw | str | list[msgspec.Raw] | None


class _TextPart(msgspec.Struct):
    text: msgspec.Raw = ABSENT


_part = msgspec.json.Decoder(_TextPart)
_parts = msgspec.json.Decoder(list[msgspec.Raw])


def worth_clipping(body: bytes) -> bool:
    """Whether a long body's contents are better left as they are spelt until they are cut: where the first is a text.
    In parts they are not decoded anyway."""
    first = _FIRST_CONTENT.search(body) if len(body) > LONG_BYTES else None
    return first is not None and first[1] == b'"'


def shorten(turns: Sequence[Turn | LooseTurn]) -> tuple[int, int]:
    """Leave of the turns only what is hashed of them: how many there are until then, and about how many bytes of text
    were left out."""
    room = LONG_BYTES
    for number, turn in enumerate(turns):
        content, left_out = clipped(turn.content, room)
        room -= _size(content)
        if left_out or len(turn.tool_calls) > room:
            turn.content = cast(Any, content)
            left_out += len(turn.tool_calls)
            turn.tool_calls = ABSENT
            return number + 1, left_out + sum(map(_text_size, turns[number + 1 :]))
        room -= len(turn.tool_calls)
    return len(turns), 0


def _text_size(turn: Turn | LooseTurn) -> int:
    content = turn.content
    if isinstance(content, list):
        return len(turn.tool_calls) + sum(len(_text(part)) for part in content)
    return len(turn.tool_calls) + (len(content) if content is not None else 0)


def clipped(content: Content, room: int) -> tuple[Content, int]:
    """A content whose text is the beginning of this one's, in some `room` bytes, and about how many were left out.

    What is neither a text nor a list of parts is kept as it is, and so are pictures: they are short once they are read.
    """
    if content is None or _size(content) <= room:
        return content, 0
    if isinstance(content, str):
        return content[:room], len(content) - room
    if isinstance(content, list):
        return _clipped_parts(content, room)
    if not is_text(content):
        try:
            return _clipped_parts(_parts.decode(content), room)
        except msgspec.DecodeError:
            return content, 0
    return clipped_text(content, room)


def clipped_text(raw: msgspec.Raw, room: int = LONG_BYTES) -> tuple[msgspec.Raw, int]:
    """The same of a JSON string; all else is kept as it is."""
    if len(raw) <= room or not is_text(raw):
        return raw, 0
    text = _beginning(raw, room)
    return msgspec.Raw(text), len(raw) - len(text)


def clipped_ids(raw: msgspec.Raw) -> tuple[msgspec.Raw, int]:
    """A list of token ids up to some `LONG_BYTES` of JSON, and about how many ids were left out; all else is kept."""
    if len(raw) <= LONG_BYTES or is_text(raw):
        return raw, 0
    head = bytes(memoryview(raw)[:LONG_BYTES])
    end = head.rfind(b",")
    if end < 0 or head.find(b"[", 1) >= 0 or b'"' in head:
        return raw, 0
    return msgspec.Raw(head[:end] + b"]"), (len(raw) - end) * (head.count(b",")) // end


def _clipped_parts(parts: list[msgspec.Raw], room: int) -> tuple[Content, int]:
    kept: list[msgspec.Raw] = []
    total = 0
    for part in parts:
        text = _text(part) if total or len(part) > room else part
        if len(text) <= room and not total:
            room -= len(text)
            kept.append(part)
        elif not text:
            kept.append(part)
        elif total:
            total += len(text)
        else:
            cut = _beginning(text, room)
            kept.append(msgspec.Raw(b'{"type":"text","text":%b}' % cut))
            total = len(text) - len(cut)
    return kept if total else parts, total


def _text(part: msgspec.Raw) -> msgspec.Raw:
    """The JSON of the text that this part is; empty if it is something else."""
    if is_text(part):
        return part
    if _TEXT_FIRST.match(bytes(memoryview(part)[:_HEAD_BYTES])) is None:
        return ABSENT
    text = _part.decode(part).text
    return text if is_text(text) else ABSENT


def _size(content: Content) -> int:
    if isinstance(content, list):
        return sum(map(len, content))
    return len(content) if content is not None else 0


def is_text(raw: msgspec.Raw) -> bool:
    """Whether this JSON is a string."""
    return bytes(memoryview(raw)[:1]) == b'"'


def _beginning(text: msgspec.Raw, room: int) -> bytes:
    """Of a JSON string of more than `room` bytes, one of at most so many: no character and no escape is split."""
    view = memoryview(text)
    end = max(1, room - 1)
    while view[end] & 0xC0 == 0x80:
        end -= 1
    head = bytes(view[:end])
    slash = head.rfind(b"\\", max(0, end - _UNICODE_ESCAPE_BYTES + 1))
    if slash >= 0 and _is_escape(head, slash):
        needed = _UNICODE_ESCAPE_BYTES if head[slash + 1 : slash + 2] == b"u" else 2
        if slash + needed > end:
            head = head[:slash]
    # The second half of a pair would have followed.
    start = len(head) - _UNICODE_ESCAPE_BYTES
    if start > 0 and _HIGH_SURROGATE.match(head, start) and _is_escape(head, start):
        head = head[:start]
    return head + b'"'


def _is_escape(text: bytes, slash: int) -> bool:
    """Whether this backslash begins an escape: of a row of them every second one is the end of one."""
    upto = text[: slash + 1]
    return (len(upto) - len(upto.rstrip(b"\\"))) % 2 == 1
