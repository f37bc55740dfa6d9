"""What each replica's KV cache is likely to hold: an index of prompt blocks, learned from what was sent where."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from gateway.core.prefix import BLOCK_BYTES
from gateway.core.tokens import BYTES_PER_TOKEN, TokenRatios
from gateway.core.types import EngineView, FleetSnapshot, ReplicaId, ReplicaState

BLOCKS_PER_REPLICA = 3072
"""Capacity while a replica's KV cache size is not known: 400k tokens (8B on one H100) in blocks of 128. Half of the
real size costs 1.5 times the p99 TTFT, twice of it 1.1 times: rather too much than too little."""

REMEMBERED = 1.25
"""Of what its KV cache holds is what a replica is remembered for: a prompt that was thrown out has to be computed
wherever it goes, and is best computed where those that share it went before (decision 9)."""

MAX_BLOCKS_PER_REPLICA = 1 << 17
"""16M tokens, more than a replica holds today: a wild reading must not open the memory."""


def capacity_blocks(kv_tokens: int | None, bytes_per_token: float = BYTES_PER_TOKEN) -> int:
    """Blocks that a replica with a KV cache of so many tokens is remembered for; the default if that is not known."""
    if kv_tokens is None:
        return BLOCKS_PER_REPLICA
    return min(MAX_BLOCKS_PER_REPLICA, max(1, int(REMEMBERED * kv_tokens * bytes_per_token) // BLOCK_BYTES))


class Match:
    """How deep a prompt's chain is known at each replica, in blocks; it does not follow the index."""

    __slots__ = ("_depths", "deepest")

    def __init__(self, depths: Mapping[ReplicaId, int], deepest: int) -> None:
        self._depths = depths
        self.deepest = deepest
        """The longest of all matches."""

    def depth(self, replica: ReplicaId) -> int:
        """Leading blocks that the replica is likely to hold; 0 for one that is not known."""
        return self._depths.get(replica, 0)

    def __repr__(self) -> str:
        return f"<Match {dict(self._depths)}>"


class PrefixIndex:
    """Block hash → bit set of the replicas that hold it: one walk finds the match of every replica at once.

    Each replica's blocks are an LRU, touched deepest first, so that leaves go before their parents: a replica that
    holds a block holds all before it.
    """

    def __init__(self, capacity: int = BLOCKS_PER_REPLICA) -> None:
        self._default = capacity
        self._capacity: dict[ReplicaId, int] = {}
        self._holders: dict[int, int] = {}
        self._recent: dict[ReplicaId, OrderedDict[int, None]] = {}
        self._bits: dict[ReplicaId, int] = {}
        self._names: dict[int, ReplicaId] = {}
        self._out: set[ReplicaId] = set()
        self._restarts: dict[ReplicaId, int] = {}
        self.sent: list[tuple[ReplicaId, Sequence[int]]] | None = None
        """What was recorded, for the one that tells others and empties it; `None`: nobody does."""

    def match(self, blocks: Sequence[int]) -> Match:
        """Read only. Costs a look-up a block, up to the first that nobody holds, and a step a replica that has any."""
        holders = self._holders
        depths: dict[ReplicaId, int] = {}
        alive = -1
        depth = 0
        for block in blocks:
            still = holders.get(block, 0)
            if still != alive:
                still &= alive
                if depth:
                    self._note(alive & ~still, depth, depths)
                alive = still
                if not alive:
                    return Match(depths, depth)
            depth += 1
        if depth:
            self._note(alive, depth, depths)
        return Match(depths, depth)

    def _note(self, bits: int, depth: int, depths: dict[ReplicaId, int]) -> None:
        """The replicas of these bits hold no more than `depth` blocks."""
        while bits:
            bit = bits & -bits
            depths[self._names[bit]] = depth
            bits ^= bit

    def record(self, replica: ReplicaId, blocks: Sequence[int]) -> None:
        """The replica has been sent this chain: its cache will hold it, as far as it fits."""
        if self.sent is not None and blocks:
            self.sent.append((replica, blocks))
        self.learn(replica, blocks)

    def learn(self, replica: ReplicaId, blocks: Sequence[int]) -> None:
        """The same, of what another process has sent."""
        capacity = self._capacity.get(replica, self._default)
        bit = self._bits.get(replica) or self._assign(replica)
        recent = self._recent[replica]
        touch = recent.move_to_end
        holders = self._holders
        for block in reversed(blocks[:capacity]):
            if block in recent:
                touch(block)
            else:
                recent[block] = None
                holders[block] = holders.get(block, 0) | bit
        self._shrink(recent, bit, capacity)

    def resize(self, replica: ReplicaId, capacity: int) -> None:
        """The replica's cache holds so many blocks; see `capacity_blocks`. Free when nothing changes."""
        self._capacity[replica] = capacity
        recent = self._recent.get(replica)
        if recent is not None:
            self._shrink(recent, self._bits[replica], capacity)

    def forget(self, replica: ReplicaId) -> None:
        """The replica has restarted or left: its cache is empty, and its size has to be told again."""
        self._capacity.pop(replica, None)
        bit = self._bits.pop(replica, 0)
        if bit:
            del self._names[bit]
            self._shrink(self._recent.pop(replica), bit, 0)

    def follow(self, fleet: FleetSnapshot, ratios: TokenRatios) -> None:
        """Forget replicas that have left, restarted or been ejected since the last call: they come back with an empty
        cache. Take over the capacities that engines have told, in blocks of their models' text.

        Only once for each ejection: when all are out, they serve all the same, and what they are sent counts.
        """
        out = {view.id for view in fleet.replicas if view.state is ReplicaState.EJECTED}
        gone = self._bits.keys() - {view.id for view in fleet.replicas}
        for replica in gone | (out - self._out):
            self.forget(replica)
        self._out = out
        restarts = {}
        for view in fleet.replicas:
            if view.engine is not None:
                self._heed(view.id, view.engine, ratios.of_replica(view.models or ()))
                restarts[view.id] = view.engine.restarts
        self._restarts = restarts

    def _heed(self, replica: ReplicaId, engine: EngineView, bytes_per_token: float) -> None:
        if engine.restarts > self._restarts.get(replica, 0):
            self.forget(replica)
        if engine.last.kv_capacity_tokens is not None:
            self.resize(replica, capacity_blocks(engine.last.kv_capacity_tokens, bytes_per_token))

    def _assign(self, replica: ReplicaId) -> int:
        taken = sum(self._names)
        bit = ~taken & (taken + 1)  # the lowest bit that nobody has
        self._bits[replica] = bit
        self._names[bit] = replica
        self._recent[replica] = OrderedDict()
        return bit

    def _shrink(self, recent: OrderedDict[int, None], bit: int, capacity: int) -> None:
        holders = self._holders
        while len(recent) > capacity:
            block, _ = recent.popitem(last=False)
            left = holders[block] ^ bit
            if left:
                holders[block] = left
            else:
                del holders[block]

    def contents(self, most: int) -> Iterator[tuple[ReplicaId, list[int]]]:
        """All that is held, in pieces of so many blocks at most; learned in this order they make the same index."""
        for replica, recent in self._recent.items():
            blocks = list(recent)
            for start in range(0, len(blocks), most):
                yield replica, blocks[start : start + most][::-1]

    def blocks(self, replica: ReplicaId) -> int:
        """Blocks that the replica is believed to hold."""
        return len(self._recent.get(replica, ()))

    def __len__(self) -> int:
        """Blocks known, each counted once."""
        return len(self._holders)

    def __repr__(self) -> str:
        return f"<PrefixIndex {len(self)} blocks, {len(self._bits)} replicas>"
