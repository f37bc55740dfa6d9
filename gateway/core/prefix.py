"""A prompt as a chain of block hashes: two prompts share leading hashes exactly as far as they share leading bytes."""

import xxhash

BLOCK_BYTES = 512
"""About 128 tokens. ROUTING: matching at 128, 256 or 512 tokens differs by 1 %, at 1,024 it loses 13 %."""

MAX_HASHED_BYTES = 1 << 20
"""A prompt's bytes beyond this are not hashed: they decide nothing that the first megabyte has not."""


def chain(seed: bytes, prompt: bytes) -> tuple[int, ...]:
    """A 64-bit hash for each whole block, each seeded by the one before it, the first by model, adapter and salt."""
    return _links(xxhash.xxh3_64_intdigest(seed), prompt)


def extended(blocks: tuple[int, ...], more: bytes) -> tuple[int, ...]:
    """The chain with the bytes that follow its last block, as far as they fill blocks. A chain without any stays so."""
    if not blocks or len(blocks) * BLOCK_BYTES >= MAX_HASHED_BYTES:
        return blocks
    return blocks + _links(blocks[-1], more)


def _links(link: int, prompt: bytes) -> tuple[int, ...]:
    digest = xxhash.xxh3_64_intdigest
    hashes = []
    for start in range(0, min(len(prompt), MAX_HASHED_BYTES) - BLOCK_BYTES + 1, BLOCK_BYTES):
        link = digest(prompt[start : start + BLOCK_BYTES], link)
        hashes.append(link)
    return tuple(hashes)
