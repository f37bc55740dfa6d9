"""A prompt as a chain of block hashes: two prompts share leading hashes exactly as far as they share leading bytes."""

import xxhash

BLOCK_BYTES = 512
"""About 128 tokens. ROUTING: matching at 128, 256 or 512 tokens differs by 1 %, at 1,024 it loses 13 %."""

MAX_HASHED_BYTES = 1 << 20
"""A prompt's bytes beyond this are not hashed: they decide nothing that the first megabyte has not."""


def chain(seed: bytes, prompt: bytes) -> tuple[int, ...]:
    """A 64-bit hash for each whole block, each seeded by the one before it, the first by model, adapter and salt."""
    link = xxhash.xxh3_64_intdigest(seed)
    digest = xxhash.xxh3_64_intdigest
    hashes = []
    for start in range(0, min(len(prompt), MAX_HASHED_BYTES) - BLOCK_BYTES + 1, BLOCK_BYTES):
        link = digest(prompt[start : start + BLOCK_BYTES], link)
        hashes.append(link)
    return tuple(hashes)
