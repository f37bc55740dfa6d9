"""Prompts as chains of block hashes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.prefix import BLOCK_BYTES, MAX_HASHED_BYTES, chain, extended

prompts = st.lists(st.sampled_from([b"a" * 300, b"b" * 300, b"c" * 512]), max_size=8).map(b"".join)


@given(prompts, prompts)
def test_leading_hashes_are_shared_exactly_as_far_as_leading_bytes(one: bytes, other: bytes) -> None:
    """Two chains agree on a block if and only if the prompts agree on every byte up to its end."""
    for i, (left, right) in enumerate(zip(chain(b"m", one), chain(b"m", other), strict=False)):
        end = (i + 1) * BLOCK_BYTES
        assert (left == right) == (one[:end] == other[:end])


@given(prompts)
def test_the_seed_separates_models(prompt: bytes) -> None:
    """No block of one model is a block of another."""
    assert not set(chain(b"a", prompt)) & set(chain(b"b", prompt))


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (511, 0), (512, 1), (1023, 1), (1024, 2)])
def test_only_whole_blocks_count(size: int, blocks: int) -> None:
    """A block that is not full may still grow into something else."""
    assert len(chain(b"", b"x" * size)) == blocks


def test_a_huge_prompt_is_hashed_to_a_bound() -> None:
    """Memory and time stay bounded, whatever is sent."""
    assert len(chain(b"", bytes(MAX_HASHED_BYTES * 2))) == MAX_HASHED_BYTES // BLOCK_BYTES


@given(prompts, prompts)
def test_a_chain_that_goes_on(one: bytes, more: bytes) -> None:
    """With what follows, it is the chain of the whole; one without a block does not know its seed any more."""
    blocks = chain(b"m", one)
    whole = extended(blocks, one[len(blocks) * BLOCK_BYTES :] + more)
    assert whole == (chain(b"m", one + more) if blocks else ())


def test_a_huge_chain_does_not_grow() -> None:
    """The bound holds for what follows, too."""
    blocks = chain(b"", bytes(MAX_HASHED_BYTES))
    assert extended(blocks, bytes(BLOCK_BYTES)) == blocks
