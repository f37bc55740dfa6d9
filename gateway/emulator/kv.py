"""The paged KV cache of one engine: how many blocks are free, which are cached, which goes next."""

from collections import OrderedDict


class BlockPool:
    """Blocks are counted, not numbered: a block is known by the hash of its contents, or it is anonymous.

    free = blank blocks + cached blocks that nobody holds; free + held = total, always.

    Where this is simpler than vLLM (`vllm/v1/core/block_pool.py`), on purpose:
    blank blocks are used before any cached one is evicted, and a block computed twice is kept once.
    """

    __slots__ = ("_blank", "_holders", "_idle", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self._blank = total
        self._holders: dict[int, int] = {}
        # Cached and held by nobody, next to be evicted first. An OrderedDict, since taking the first key of a
        # plain dict over and over costs a walk over the holes that the earlier ones left.
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that `take` could hand out now."""
        return self._blank + len(self._idle)

    @property
    def held(self) -> int:
        """Blocks in use, a shared one counted once."""
        return self.total - self._blank - len(self._idle)

    @property
    def cached(self) -> int:
        """Blocks that a prompt could hit, held or not."""
        return len(self._holders)

    def match(self, chain: tuple[int, ...], limit: int) -> tuple[int, int]:
        """How many of the first `limit` blocks are cached without a hole, and how many of those nobody holds."""
        holders = self._holders
        hits = idle = 0
        for block in chain[:limit]:
            count = holders.get(block)
            if count is None:
                break
            hits += 1
            if not count:
                idle += 1
        return hits, idle

    def hold(self, chain: tuple[int, ...], count: int) -> None:
        """Hold the first `count` blocks of the chain, which `match` has just found."""
        holders = self._holders
        for block in chain[:count]:
            before = holders[block]
            holders[block] = before + 1
            if not before:
                del self._idle[block]

    def take(self, count: int) -> None:
        """Hold `count` anonymous blocks, evicting the longest unused cached ones for them. ValueError beyond `free`."""
        if count > self.free:
            raise ValueError(f"{count} blocks wanted, {self.free} free")
        from_blank = min(count, self._blank)
        self._blank -= from_blank
        for _ in range(count - from_blank):
            block, _none = self._idle.popitem(last=False)
            del self._holders[block]

    def name(self, chain: tuple[int, ...], start: int, stop: int) -> None:
        """Anonymous blocks that the caller holds are full: they are `chain[start:stop]` from now on and can be hit.

        One that is cached already is shared and the caller's own becomes blank.
        """
        holders = self._holders
        for block in chain[start:stop]:
            before = holders.get(block)
            if before is None:
                holders[block] = 1
                continue
            holders[block] = before + 1
            self._blank += 1
            if not before:
                del self._idle[block]

    def release(self, chain: tuple[int, ...], named: int, anonymous: int) -> None:
        """Give back the first `named` blocks of the chain, which stay cached, and `anonymous` others, which do not.

        From the end backwards, so that the leaves of a conversation are evicted before what they hang from
        (`KVCacheManager.free`: "free the blocks in reverse order so that the tail blocks are freed first").
        """
        holders = self._holders
        for block in chain[:named][::-1]:
            left = holders[block] - 1
            holders[block] = left
            if not left:
                self._idle[block] = None
        self._blank += anonymous

    def forget(self) -> None:
        """Drop every cached block that nobody holds. What is held stays cached until it is released and evicted."""
        for block in self._idle:
            del self._holders[block]
        self._blank += len(self._idle)
        self._idle.clear()
