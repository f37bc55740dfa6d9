"""What a routing decision costs, hashing included and parsing not, and what parsing costs that is long: `python -m
loadtest.routing_cost`."""

import json
import time
import timeit
from collections.abc import Callable

from gateway.core import bodies
from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies import POLICIES
from gateway.core.prefix import chain
from gateway.core.request import RequestFacts, parse
from gateway.core.routing import decide
from gateway.core.types import FleetSnapshot, KvCache, Replica, ReplicaId, ReplicaState, ReplicaView, Slowdown

SEED = b"m\0"
KNOWN = {"kv": KvCache(400_000, 0.5, 0), "slowdown": Slowdown(1.1, 1.0)}


LONG = "The quick brown fox jumps over the lazy dog, again and again.\n" * 160_000
LONG_BODIES: dict[str, tuple[bytes, dict[str, object]]] = {
    "a message, streamed": (b"/v1/chat/completions", {"stream": True, "messages": [{"role": "user", "content": LONG}]}),
    "a message with accents, as UTF-8": (
        b"/v1/chat/completions",
        {"messages": [{"role": "user", "content": LONG.replace("over", "ôvér")}]},
    ),
    "a message in one part": (
        b"/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": LONG}]}]},
    ),
    "10,000 messages": (
        b"/v1/chat/completions",
        {"messages": [{"role": "user", "content": LONG[:1000]} for _ in range(10_000)]},
    ),
    "a prompt": (b"/v1/completions", {"prompt": LONG}),
    "1.5 million token ids": (b"/v1/completions", {"prompt": [100_000 + number for number in range(1_500_000)]}),
}


def cost_us(call: Callable[[], object], number: int) -> float:
    """Microseconds of CPU of one call: the best of nine rounds, the others were disturbed."""
    return min(timeit.repeat(call, number=number, repeat=9, timer=time.process_time)) / number * 1e6


def long_bodies() -> None:
    """Each body: read by the gateway, and only scanned for where its fields end."""
    for name, (path, body) in LONG_BODIES.items():
        raw = json.dumps({"model": "m", **body}, ensure_ascii=False).encode()
        endpoint = RELAYED[path]
        parsed = cost_us(lambda raw=raw, endpoint=endpoint: parse(endpoint, b"application/json", raw), 1)  # type: ignore[misc]
        scanned = cost_us(lambda raw=raw: bodies.FIELDS.decode(raw), 1)  # type: ignore[misc]
        print(f"{len(raw) / 1e6:.1f} MB, {name}: read {parsed / 1000:.1f} ms, of which scan {scanned / 1000:.1f} ms")


def measure(replicas: int, size: int, number: int) -> dict[str, float]:
    """Every replica holds another part of the prompt and is busy in another way: the dearest case."""
    prompt = bytes(i * 131 % 251 for i in range(size))
    blocks = chain(SEED, prompt)
    endpoint = RELAYED[b"/v1/chat/completions"]
    facts = RequestFacts(endpoint, "m", True, None, size // 4, False, b"", blocks)
    index, books, policy = PrefixIndex(), Books(), POLICIES["prefix"]()
    ids = [ReplicaId(f"r{i}") for i in range(replicas)]
    for i, replica in enumerate(ids):
        index.record(replica, blocks[: i * len(blocks) // replicas])
        books.open(replica, i % 7 * 100, i % 5 * 1000)
    views = [ReplicaView(Replica(r, f"http://{r}"), ReplicaState.READY, frozenset("m"), **KNOWN) for r in ids]  # type: ignore[arg-type]
    fleet = FleetSnapshot(tuple(views))
    match = index.match(blocks)

    def whole() -> None:
        decide(facts, fleet, books, index.match(chain(SEED, prompt)), policy)

    return {
        "whole": cost_us(whole, number),
        "hash": cost_us(lambda: chain(SEED, prompt), number),
        "match": cost_us(lambda: index.match(blocks), number),
        "decide": cost_us(lambda: decide(facts, fleet, books, match, policy), number),
        "record": cost_us(lambda: index.record(ids[-1], blocks), number),
    }


def main() -> None:
    for replicas, size, number in ((4, 2048, 5000), (1000, 512 * 1024, 10)):
        costs = measure(replicas, size, number)
        print(f"{replicas} replicas, {size} B: " + ", ".join(f"{name} {cost:.1f} us" for name, cost in costs.items()))
    long_bodies()


if __name__ == "__main__":
    main()
