"""What it costs to be able to resume a stream, for each of its events: `python -m loadtest.resume_cost`.

The relay's part, in process CPU time: a stream as it passes where `resume` is off or the request cannot be resumed; the
same stream where its text is kept; and with token ids, which are kept and taken out.
"""

import gc
import re
import time
from collections.abc import Callable

import msgspec

from gateway.core.endpoints import RELAYED
from gateway.core.relay import StreamRelay
from gateway.core.tracked import TrackedRelay
from gateway.emulator.chat import Chat
from gateway.emulator.prompts import Served, chat

CHUNKS = 2000
STREAMS = 10
ROUNDS = 15
_CONTENT = re.compile(rb'"content":"[^"]+"')
READ = RELAYED[b"/v1/chat/completions"].read


def chunks(*, ids: bool) -> list[bytes]:
    """The reads of one stream as vLLM's events come under little load: one token each."""
    messages = [{"role": "user", "content": "Tell me of the sea."}]
    body = {"messages": messages, "stream": True, "max_tokens": CHUNKS, "ignore_eos": True, "return_token_ids": ids}
    shape = Chat(chat(msgspec.json.encode(body), Served()), "chatcmpl-1", 1)
    return [shape.opening(), *(shape.tokens(0, 1) for _ in range(CHUNKS - 1))]


def off() -> StreamRelay:
    return StreamRelay(READ, hide_usage=True)


def exact() -> TrackedRelay:
    return TrackedRelay(READ, hide_usage=True, wants_ids=True)


def by_text() -> TrackedRelay:
    return TrackedRelay(READ, hide_usage=True, wants_ids=False)


def cost_us(make: Callable[[], StreamRelay], reads: list[bytes]) -> float:
    """Microseconds of CPU an event, one stream after the other."""
    relays = [make() for _ in range(STREAMS)]
    started_s = time.process_time()
    for relay in relays:
        for data in reads:
            relay.feed(data)
    return (time.process_time() - started_s) / (STREAMS * CHUNKS) * 1e6


def quoted(reads: list[bytes]) -> list[bytes]:
    """Text as code has it, in which JSON escapes every quotation mark."""
    return [_CONTENT.sub(rb'"content":"\\"x"', data) for data in reads]


def pairs(reads: list[bytes]) -> list[bytes]:
    """Two events in a read, as they come where the gateway or the replica is behind."""
    return [b"".join(reads[start : start + 2]) for start in range(0, len(reads), 2)]


CASES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "an event a read": list,
    "quoted": quoted,
    "two a read": pairs,
}
MODES: dict[str, Callable[[], StreamRelay]] = {"off": off, "text": by_text, "exact": exact}


def main() -> None:
    """All modes in turn within a round, and of each the best: the other rounds were disturbed."""
    plain, told = chunks(ids=False), chunks(ids=True)
    carry = exact()
    assert b"".join(map(carry.feed, told)).count(b"data: ") == len(told)
    assert carry.carry.tokens == CHUNKS - 1
    gc.disable()
    for case, shaped in CASES.items():
        reads = {mode: shaped(told if mode == "exact" else plain) for mode in MODES}
        rounds = [[cost_us(make, reads[mode]) for mode, make in MODES.items()] for _ in range(ROUNDS)]
        best = dict(zip(MODES, map(min, zip(*rounds, strict=True)), strict=True))
        costs = ", ".join(f"{mode} {cost:.2f} us" for mode, cost in best.items())
        print(f"{case}: {costs}; exact costs {best['exact'] - best['off']:.2f} us more")


if __name__ == "__main__":
    main()
