"""The prefix index against a model of it that is slow and plain."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.affinity import PrefixIndex
from gateway.core.types import ReplicaId

NAMES = [ReplicaId(f"r{i}") for i in range(4)]

# Chains over a small alphabet share prefixes often; a block stands for its whole prefix, as real hashes do.
chains = st.lists(st.integers(0, 2), max_size=6).map(
    lambda steps: tuple(hash(tuple(steps[: i + 1])) for i in range(len(steps)))
)
steps = st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), chains)), max_size=30)


@given(steps, chains)
def test_the_walk_finds_what_a_look_at_each_replica_finds(
    history: list[tuple[ReplicaId, tuple[int, ...] | None]], asked: tuple[int, ...]
) -> None:
    """One walk over the bit sets gives every replica's depth, also after some have forgotten."""
    index = PrefixIndex()
    held: dict[ReplicaId, set[int]] = {name: set() for name in NAMES}
    for replica, chain in history:
        if chain is None:
            index.forget(replica)
            held[replica].clear()
        else:
            index.record(replica, chain)
            held[replica].update(chain)
    match = index.match(asked)
    for replica in NAMES:
        depth = next((i for i, block in enumerate(asked) if block not in held[replica]), len(asked))
        assert match.depth(replica) == depth
    assert len(index) == len(set().union(*held.values()))


@given(st.lists(chains, max_size=30), st.integers(1, 5))
def test_memory_is_bounded(history: list[tuple[int, ...]], capacity: int) -> None:
    """A replica never has more blocks than its capacity, whatever is recorded."""
    index = PrefixIndex(capacity)
    for chain in history:
        index.record(NAMES[0], chain)
        assert len(index) <= capacity


def test_leaves_go_before_their_parents() -> None:
    """When room is short the end of the oldest chain is dropped, and its beginning still matches."""
    index = PrefixIndex(5)
    index.record(NAMES[0], (1, 2, 3))
    index.record(NAMES[0], (7, 8, 9))
    assert index.match((1, 2, 3)).depth(NAMES[0]) == 2


def test_what_is_used_stays() -> None:
    """A chain that is recorded again is newer than one that was not."""
    index = PrefixIndex(4)
    index.record(NAMES[0], (1, 2))
    index.record(NAMES[0], (7, 8))
    index.record(NAMES[0], (1, 2))
    index.record(NAMES[0], (9, 10))
    assert index.match((1, 2)).depth(NAMES[0]) == 2
    assert index.match((7, 8)).depth(NAMES[0]) == 0


def test_a_freed_place_is_used_again() -> None:
    """A replica that comes after one that left does not inherit its blocks."""
    index = PrefixIndex()
    index.record(NAMES[0], (1, 2))
    index.record(NAMES[1], (1,))
    index.forget(NAMES[0])
    index.record(NAMES[2], (5,))
    match = index.match((1, 2))
    assert [match.depth(name) for name in NAMES[:3]] == [0, 1, 0]
    assert repr(index) == "<PrefixIndex 2 blocks, 2 replicas>"


def test_nothing_matches_nothing() -> None:
    """An empty prompt is known nowhere."""
    index = PrefixIndex()
    index.record(NAMES[0], (1,))
    assert index.match(()).depth(NAMES[0]) == 0
