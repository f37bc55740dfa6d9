"""Rendezvous hashing: every gateway that knows the same replicas ranks them the same way for a key, without talking."""

from functools import lru_cache

import xxhash

from gateway.core.types import ReplicaId

_MASK = (1 << 64) - 1


def weight(key: int, replica: ReplicaId) -> float:
    """This replica's claim on this key, in [0, 1). Losing a replica moves only the keys that it had won."""
    # splitmix64's finalizer (Steele, Lea and Flood 2014): cheaper from Python than hashing bytes, and mixes as well.
    x = (key ^ _salt(replica)) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((x ^ (x >> 31)) >> 11) / (1 << 53)


@lru_cache(maxsize=8192)
def _salt(replica: ReplicaId) -> int:
    return xxhash.xxh3_64_intdigest(replica.encode())
