"""What each replica's KV cache is likely to hold: an index of prompt blocks, learned from what was sent where."""

from collections.abc import Sequence

from gateway.core.types import ReplicaId

BLOCKS_PER_REPLICA = 3072
"""Capacity while a replica's KV cache size is not known: 400k tokens (8B on one H100) in blocks of 128."""


class Match:
    """How deep a prompt's chain is known at each replica, in blocks. Read it at once: it does not follow the index."""

    __slots__ = ("_bits", "_steps")

    def __init__(self, bits: dict[ReplicaId, int], steps: Sequence[tuple[int, int]]) -> None:
        self._bits = bits
        self._steps = steps

    def depth(self, replica: ReplicaId) -> int:
        """Leading blocks that the replica is likely to hold; 0 for one that is not known."""
        bit = self._bits.get(replica, 0)
        for holders, depth in self._steps:
            if holders & bit:
                return depth
        return 0


class PrefixIndex:
    """Block hash → bit set of the replicas that hold it: one walk finds the match of every replica at once.

    Each replica's blocks are an LRU, touched deepest first, so that leaves go before their parents.
    """

    def __init__(self, capacity: int = BLOCKS_PER_REPLICA) -> None:
        self._capacity = capacity
        self._holders: dict[int, int] = {}
        self._recent: dict[ReplicaId, dict[int, None]] = {}
        self._bits: dict[ReplicaId, int] = {}

    def match(self, blocks: Sequence[int]) -> Match:
        """Read only. Costs one look-up a block, up to the first that nobody holds."""
        holders = self._holders
        steps: list[tuple[int, int]] = []
        alive = -1
        for depth, block in enumerate(blocks):
            still = alive & holders.get(block, 0)
            if still != alive:
                if depth:
                    steps.append((alive & ~still, depth))
                if not still:
                    return Match(self._bits, steps)
                alive = still
        if blocks:
            steps.append((alive, len(blocks)))
        return Match(self._bits, steps)

    def record(self, replica: ReplicaId, blocks: Sequence[int]) -> None:
        """The replica has been sent this chain: its cache will hold it."""
        bit = self._bits.get(replica) or self._assign(replica)
        recent = self._recent[replica]
        holders = self._holders
        for block in reversed(blocks):
            if block in recent:
                del recent[block]
            else:
                holders[block] = holders.get(block, 0) | bit
            recent[block] = None
        while len(recent) > self._capacity:
            self._drop(next(iter(recent)), recent, bit)

    def forget(self, replica: ReplicaId) -> None:
        """The replica has restarted or left: its cache is empty."""
        bit = self._bits.pop(replica, 0)
        recent = self._recent.pop(replica, {})
        for block in list(recent):
            self._drop(block, recent, bit)

    def _assign(self, replica: ReplicaId) -> int:
        taken = sum(self._bits.values())
        bit = ~taken & (taken + 1)  # the lowest bit that nobody has
        self._bits[replica] = bit
        self._recent[replica] = {}
        return bit

    def _drop(self, block: int, recent: dict[int, None], bit: int) -> None:
        del recent[block]
        left = self._holders[block] & ~bit
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]

    def __len__(self) -> int:
        """Blocks known, each counted once."""
        return len(self._holders)

    def __repr__(self) -> str:
        return f"<PrefixIndex {len(self)} blocks, {len(self._bits)} replicas>"
