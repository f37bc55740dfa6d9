"""Blocks: none is lost, the longest unused goes first, leaves before what they hang from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulator.kv import BlockPool

CHAIN = (1, 2, 3, 4)


def filled(total: int = 4) -> BlockPool:
    """All of CHAIN cached, nobody holds it."""
    pool = BlockPool(total)
    pool.take(4)
    pool.name(CHAIN, 0, 4)
    pool.release(CHAIN, 4, 0)
    return pool


def test_leaves_are_evicted_before_their_parents() -> None:
    pool = filled()
    for left in (3, 2, 1, 0):
        pool.take(1)
        assert pool.match(CHAIN, 4) == (left, left)


def test_the_longest_unused_chain_goes_first() -> None:
    """Holding and releasing makes a chain the newest."""
    pool = filled(6)
    pool.take(2)
    pool.name((7, 8), 0, 2)
    pool.release((7, 8), 2, 0)
    pool.hold(CHAIN, 4)
    pool.release(CHAIN, 4, 0)
    pool.take(2)
    assert (pool.match((7, 8), 2), pool.match(CHAIN, 4)) == ((0, 0), (4, 4))


def test_what_is_held_is_never_evicted() -> None:
    pool = filled()
    pool.hold(CHAIN, 2)
    pool.take(2)
    assert (pool.free, pool.held, pool.match(CHAIN, 4)) == (0, 4, (2, 0))
    with pytest.raises(ValueError, match="1 blocks wanted, 0 free"):
        pool.take(1)


def test_blank_blocks_are_used_before_cached_ones() -> None:
    pool = filled(6)
    pool.take(2)
    assert (pool.cached, pool.free) == (4, 4)


def test_a_shared_block_is_free_when_the_last_holder_lets_go() -> None:
    pool = filled()
    pool.hold(CHAIN, 4)
    pool.hold(CHAIN, 1)
    pool.release(CHAIN, 4, 0)
    assert (pool.held, pool.match(CHAIN, 4)) == (1, (4, 3))
    pool.release(CHAIN, 1, 0)
    assert pool.held == 0


@pytest.mark.parametrize("held", [True, False])
def test_a_block_computed_twice_is_kept_once(held: bool) -> None:
    """The second one becomes blank, and both hold the first."""
    pool = filled(8)
    if held:
        pool.hold(CHAIN, 4)
    pool.take(4)
    pool.name(CHAIN, 0, 4)
    assert (pool.held, pool.free, pool.cached) == (4, 4, 4)


def test_forget_keeps_what_is_held() -> None:
    pool = filled()
    pool.hold(CHAIN, 1)
    pool.forget()
    assert (pool.cached, pool.held, pool.free) == (1, 1, 3)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6), st.booleans()), max_size=30))
def test_no_block_is_lost(calls: list[tuple[int, int, bool]]) -> None:
    """Free and held are all, whoever takes, shares and releases; zero held at the end."""
    pool = BlockPool(20)
    holders: list[tuple[tuple[int, ...], int, int]] = []
    for topic, blocks, release in calls:
        chain = tuple(10 * topic + i for i in range(blocks))
        hits, idle = pool.match(chain, blocks)
        if blocks - hits + idle + 1 <= pool.free:
            pool.hold(chain, hits)
            pool.take(blocks - hits + 1)
            pool.name(chain, hits, blocks)
            holders.append((chain, blocks, 1))
        if release and holders:
            pool.release(*holders.pop(0))
        held = {block for chain, named, _ in holders for block in chain[:named]}
        assert pool.held == len(held) + len(holders)
        assert pool.free + pool.held == 20
    for holder in holders:
        pool.release(*holder)
    assert (pool.held, pool.free) == (0, 20)
