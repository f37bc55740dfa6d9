"""Rendezvous hashing: every gateway that knows the same replicas ranks them the same way for a key, without talking."""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import xxhash

from gateway.core.books import Books
from gateway.core.types import ReplicaId, ReplicaState, ReplicaView, Term

_MASK = (1 << 64) - 1


def weight(key: int, replica: ReplicaId) -> float:
    """This replica's claim on this key, in [0, 1). Losing a replica moves only the keys that it had won."""
    # splitmix64's finalizer (Steele, Lea and Flood 2014): cheaper from Python than hashing bytes, and mixes as well.
    x = (key ^ _salt(replica)) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((x ^ (x >> 31)) >> 11) / (1 << 53)


def nth(count: int) -> int:
    """A key for the request of this number, unlike that of the next (the golden ratio's step, as in splitmix64)."""
    return (count * 0x9E3779B97F4A7C15) & _MASK


@lru_cache(maxsize=8192)
def _salt(replica: ReplicaId) -> int:
    return xxhash.xxh3_64_intdigest(replica.encode())


LOAD_FACTOR = 1.25
"""A replica may hold this many times the mean number of requests in flight before its keys overflow to the next."""


def bounded(key: int | None, candidates: Sequence[ReplicaView], books: Books, load_factor: float) -> list[float]:
    """Consistent hashing with bounded loads: 0 to 1 by the key's hash, lowest at its home; 1 more at the bound.

    Without a key: the requests in flight. Source: Mirrokni, Thorup and Zadimoghaddam. Without the bound a popular key
    melts its replica.
    """
    loads: list[float] = [books[view.replica.id].in_flight for view in candidates]
    if key is None:
        return loads
    # Idle because they are out, the others would pull the mean down until every replica is over its bound.
    ready = [load for view, load in zip(candidates, loads, strict=True) if view.state is ReplicaState.READY] or loads
    bound = ceil(load_factor * (sum(ready) + 1) / len(ready))
    return [1.0 - weight(key, view.replica.id) + (load >= bound) for view, load in zip(candidates, loads, strict=True)]


def terms(key: int | None, scores: Sequence[float], *, key_is: str, no_key: str) -> list[list[Term]]:
    """What the scores of `bounded` are made of. `key_is`, `no_key`: in words, what is hashed, and what its lack is."""
    if key is None:
        return [[Term("in_flight", score, f"requests in flight there: {no_key}")] for score in scores]
    return [
        [
            Term("hash", score % 1.0, f"0 to 1: how far it is from being the home of this {key_is}"),
            Term("bound", score // 1.0, "1 when it has more requests in flight than it may take of one home"),
        ]
        for score in scores
    ]


def is_home(scores: Sequence[float], chosen: int) -> bool:
    """Whether the key's home won, by the scores of `bounded`; another one wins because of the bound."""
    fractions = [score % 1.0 for score in scores]
    return fractions[chosen] == min(fractions)
