"""Traces from files: Mooncake's format, and this gateway's own access log."""

from collections.abc import Iterable, Iterator
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from gateway.lab.text import Text
from gateway.lab.traces import TraceItem

MOONCAKE_TOKENS = 512
"""Tokens of one `hash_ids` entry."""
MAX_TOKENS = 10_000_000
"""No context is longer: a wild number in a file must not cost its size in memory."""

MOONCAKE = "a Mooncake request: timestamp (ms), input_length and output_length (tokens), hash_ids (whole numbers)"
ACCESS_LOG = "a line of this gateway's access log: time, duration_s, prompt_tokens, completion_tokens"

_Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
_T = TypeVar("_T")


class _Mooncake(msgspec.Struct):
    timestamp: float
    input_length: _Count
    output_length: _Count
    hash_ids: list[int]


class _Logged(msgspec.Struct):
    time: float
    prompt_tokens: _Count | None
    completion_tokens: _Count | None
    duration_s: float | None = None


def recorded(lines: Iterable[bytes]) -> tuple[list[TraceItem], bool]:
    """All requests in order of arrival, and whether their prompts are known; the first line tells the format.

    ValueError: the number of the line that is broken, what was expected, and what is wrong.
    """
    rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise ValueError(f"line 1: expected {MOONCAKE}; or {ACCESS_LOG}; the file is empty")
    fields = _decode(*rows[0], dict[str, msgspec.Raw], f"{MOONCAKE}; or {ACCESS_LOG}")
    logged = "prompt_tokens" in fields and "hash_ids" not in fields
    items = _logged(rows) if logged else _mooncake(rows)
    return sorted(items, key=lambda item: item.arrival_s), not logged


def _decode(number: int, line: bytes, form: type[_T], expected: str) -> _T:
    try:
        return msgspec.json.decode(line, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"line {number}: expected {expected}; {error}") from None


def _mooncake(rows: Iterable[tuple[int, bytes]]) -> Iterator[TraceItem]:
    """An id stands for 512 tokens and all before them; the last one for what is left. Replies are not told, so no
    reply is ever hit. Source: kvcache-ai/Mooncake, FAST'25 traces.
    """
    for number, line in rows:
        entry = _decode(number, line, _Mooncake, MOONCAKE)
        prompt = max(1, entry.input_length)
        text = Text()
        for one in entry.hash_ids:
            text.add(one, max(0, min(MOONCAKE_TOKENS, prompt - text.tokens)))
        # Without an id of its own the rest is nobody else's. (Not -1: Python hashes it as it does -2.)
        if text.tokens < prompt:
            text.add(-1 - number, prompt - text.tokens)
        first = str(entry.hash_ids[0]) if entry.hash_ids else f"line{number}"
        yield _item(entry.timestamp / 1000, text, entry.output_length, first)


def _logged(rows: Iterable[tuple[int, bytes]]) -> Iterator[TraceItem]:
    """Those that had a prompt and a reply. A line is written at the end, so it arrived a duration earlier."""
    for number, line in rows:
        entry = _decode(number, line, _Logged, ACCESS_LOG)
        if entry.prompt_tokens and entry.completion_tokens:
            text = Text()
            text.add(-1 - number, entry.prompt_tokens)
            yield _item(entry.time - (entry.duration_s or 0.0), text, entry.completion_tokens, "")


def _item(at: float, text: Text, output: int, system_prompt: str) -> TraceItem:
    return TraceItem(
        at, text.tokens, max(1, output), text.engine_blocks(), (), text.index_blocks(), (), None, system_prompt
    )
