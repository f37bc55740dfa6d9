"""Prompts without words: a text is a row of numbered segments, and equal beginnings have equal block hashes."""

ENGINE_TOKENS = 16
"""vLLM's usual block on a GPU."""
INDEX_TOKENS = 128
"""The gateway's canonical block: 512 bytes at four bytes a token (ROUTING, "The prefix index")."""


class Text:
    """A text that only grows. Two texts share a block hash exactly when they are the same up to its end.

    Only integers are hashed, so the hashes are the same in every process.
    """

    __slots__ = ("_engine", "_index", "_state", "tokens")

    def __init__(self) -> None:
        self.tokens = 0
        self._state = 0
        self._engine: list[int] = []
        self._index: list[int] = []

    def add(self, segment: int, tokens: int) -> None:
        """Append `tokens` tokens, which are the same wherever this segment number appears."""
        self._state = hash((self._state, self.tokens, segment))
        self.tokens += tokens
        self._fill(self._engine, ENGINE_TOKENS)
        self._fill(self._index, INDEX_TOKENS)

    def _fill(self, hashes: list[int], size: int) -> None:
        state = self._state
        hashes.extend(hash((state, end)) for end in range((len(hashes) + 1) * size, self.tokens + 1, size))

    def engine_blocks(self, start: int = 0) -> tuple[int, ...]:
        """Hashes of the full 16-token blocks from number `start` on."""
        return tuple(self._engine[start:])

    def index_blocks(self, start: int = 0) -> tuple[int, ...]:
        """Hashes of the full 128-token blocks from number `start` on."""
        return tuple(self._index[start:])
