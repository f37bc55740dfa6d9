"""What a routing decision costs, hashing included and parsing not: `python -m loadtest.routing_cost`."""

import timeit
from collections.abc import Callable

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies import POLICIES
from gateway.core.prefix import chain
from gateway.core.request import RequestFacts
from gateway.core.routing import decide
from gateway.core.types import FleetSnapshot, KvCache, Replica, ReplicaId, ReplicaState, ReplicaView, Slowdown

SEED = b"m\0"
KNOWN = {"kv": KvCache(400_000, 0.5, 0), "slowdown": Slowdown(1.1, 1.0)}


def cost_us(call: Callable[[], object], number: int) -> float:
    """Microseconds of one call: the best of nine rounds, the others were disturbed."""
    return min(timeit.repeat(call, number=number, repeat=9)) / number * 1e6


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


if __name__ == "__main__":
    main()
