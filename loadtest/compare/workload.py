"""Traces of the policy lab as requests on the wire: the same seed gives the same bytes at the same moments."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

from gateway.emulator.tokens import WORDS
from gateway.lab.text import ENGINE_TOKENS
from gateway.lab.traces import GENERATORS, TraceItem

MODEL = "emulated"
_PLAIN = tuple(word for word in WORDS if word.isascii() and word[1:].isalpha())
"""Words that are one token each, wherever they stand."""

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: OpenAI/Python 2.8.0\r\n"
    b"accept: application/json\r\nauthorization: Bearer sk-compare\r\ncontent-type: application/json\r\n"
    b"x-session-id: %b\r\ncontent-length: %d\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One request: when it is to be sent, in engine seconds from the start, and its bytes, head included."""

    at_s: float
    raw: bytes
    output_tokens: int


def plan(
    trace: str, *, rate_per_s: float, duration_s: float, seed: int, most_tokens: int | None = None
) -> list[Planned]:
    """The requests of this trace, in order; rate and duration in the engine's time. `most_tokens`: of an answer."""
    items = GENERATORS[trace](Random(seed), rate_per_s=rate_per_s, duration_s=duration_s)
    if most_tokens is not None:
        items = [replace(item, output_tokens=min(item.output_tokens, most_tokens)) for item in items]
    shared = _shared_blocks(items)
    return [Planned(item.arrival_s, request(item, shared[item.system_prompt]), item.output_tokens) for item in items]


def request(item: TraceItem, system_blocks: int) -> bytes:
    """A chat with the item's prompt as words: equal blocks are equal text, so that caches share what the trace shares.

    The first `system_blocks` blocks are the system message, the others the user's.
    """
    rest = item.prompt_tokens - len(item.blocks) * ENGINE_TOKENS
    pieces = [_words(block, ENGINE_TOKENS) for block in item.blocks]
    own = _words(hash((item.arrival_s, item.prompt_tokens)), max(1, rest))
    body = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "".join(pieces[:system_blocks])},
            {"role": "user", "content": "".join(pieces[system_blocks:]) + own},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": item.output_tokens,
        "ignore_eos": True,
    }
    raw = json.dumps(body).encode()
    return HEAD % ((item.session or "").encode(), len(raw)) + raw


def _shared_blocks(items: Sequence[TraceItem]) -> dict[str, int]:
    """How many leading blocks all requests with this system prompt share: nearly its length."""
    blocks: dict[str, list[tuple[int, ...]]] = {}
    for item in items:
        blocks.setdefault(item.system_prompt, []).append(item.blocks)
    return {name: _common(min(found), max(found)) for name, found in blocks.items()}


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Length of the common beginning; of the least and the greatest of many: of all of them."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@lru_cache(maxsize=100_000)
def _words(seed: int, count: int) -> str:
    return "".join(Random(seed).choices(_PLAIN, k=count))
