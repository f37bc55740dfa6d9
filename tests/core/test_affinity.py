"""The prefix index against a model of it that is slow and plain."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.affinity import (
    BLOCKS_PER_REPLICA,
    MAX_BLOCKS_PER_REPLICA,
    PrefixIndex,
    capacity_blocks,
)
from gateway.core.tokens import TokenRatios
from gateway.core.types import EngineView, FleetSnapshot, Replica, ReplicaId, ReplicaState, ReplicaView
from gateway.core.vitals import EngineFigures

NAMES = [ReplicaId(f"r{i}") for i in range(4)]
RATIOS = TokenRatios()
"""Nothing learned: four bytes a token."""

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
    assert match.deepest == max(map(match.depth, NAMES))
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


capacities = st.integers(0, 5)
acts = st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), capacities, chains)), max_size=30)


@given(acts, chains)
def test_who_holds_a_block_holds_all_before_it(
    history: list[tuple[ReplicaId, tuple[int, ...] | int | None]], asked: tuple[int, ...]
) -> None:
    """Under any pressure leaves go first: what a replica has left of a chain is its beginning, within its capacity."""
    index = PrefixIndex(4)
    capacity = dict.fromkeys(NAMES, 4)
    for replica, act in history:
        if act is None:
            index.forget(replica)
            capacity[replica] = 4
        elif isinstance(act, int):
            index.resize(replica, act)
            capacity[replica] = act
        else:
            index.record(replica, act)
            assert index.match(act).depth(replica) == min(len(act), capacity[replica])
        assert index.blocks(replica) <= capacity[replica]
    match = index.match(asked)
    for depth in range(1, len(asked) + 1):
        for replica in NAMES:
            alone = index.match(asked[:depth]).depth(replica)
            assert alone == min(depth, match.depth(replica))


def test_a_smaller_cache_holds_less_at_once() -> None:
    """When the real capacity becomes known, what cannot be there is dropped, the leaves first."""
    index = PrefixIndex()
    index.record(NAMES[0], (1, 2, 3))
    index.resize(NAMES[0], 2)
    assert index.match((1, 2, 3)).depth(NAMES[0]) == 2
    index.record(NAMES[0], (1, 2, 3))
    assert index.match((1, 2, 3)).depth(NAMES[0]) == index.blocks(NAMES[0]) == 2
    index.resize(NAMES[1], 1)
    index.record(NAMES[1], (1, 2))
    assert repr(index.match((1, 2))) == "<Match {'r1': 1, 'r0': 2}>"


def test_capacity_follows_the_kv_cache() -> None:
    """A quarter more than it holds, in blocks of 512 bytes, 128 tokens of four; unknown is a middling card, and a wild
    reading is not believed."""
    assert capacity_blocks(None) == BLOCKS_PER_REPLICA
    assert capacity_blocks(100 * 128) == 125
    assert capacity_blocks(100 * 128, 8.0) == 250
    assert capacity_blocks(1) == 1
    assert capacity_blocks(10**15) == MAX_BLOCKS_PER_REPLICA


def test_a_replica_that_falls_comes_back_empty() -> None:
    """It is forgotten when it is ejected or leaves; what it is sent while all are out is remembered."""
    index = PrefixIndex()
    ready, out = (
        ReplicaView(Replica(NAMES[0], "http://r0"), state) for state in (ReplicaState.READY, ReplicaState.EJECTED)
    )
    for replica in NAMES[:2]:
        index.record(replica, (1, 2))
    index.follow(FleetSnapshot((ready,)), RATIOS)
    assert [index.blocks(name) for name in NAMES[:2]] == [2, 0]
    index.follow(FleetSnapshot((out,)), RATIOS)
    assert index.blocks(NAMES[0]) == 0
    index.record(NAMES[0], (1,))
    index.follow(FleetSnapshot((out,)), RATIOS)
    assert index.blocks(NAMES[0]) == 1
    index.follow(FleetSnapshot((ready,)), RATIOS)
    index.follow(FleetSnapshot((out,)), RATIOS)
    assert index.blocks(NAMES[0]) == 0


def test_capacity_follows_the_text_of_a_replicas_models() -> None:
    """Where a token is fewer bytes than usual, fewer blocks fill the same cache."""
    ratios, index = TokenRatios(), PrefixIndex()
    for _ in range(500):
        ratios.learn("kanji", 2000, 1000)
    engine = EngineView(at=1.0, figures=None, last=EngineFigures(kv_capacity_tokens=8 * 128))
    fleet = FleetSnapshot(
        tuple(
            ReplicaView(Replica(name, f"http://{name}"), models=models, engine=engine)
            for name, models in zip(NAMES, (frozenset({"kanji", "new"}), frozenset({"other"}), None), strict=False)
        )
    )
    for name in NAMES[:3]:
        index.record(name, tuple(range(20)))
    index.follow(fleet, ratios)
    assert [index.blocks(name) for name in NAMES[:3]] == [5, 10, 10]


def test_the_index_heeds_what_engines_tell() -> None:
    """It takes over their capacity, also one that has gone stale, and forgets one that was started anew, once."""
    index = PrefixIndex()

    def told(restarts: int) -> FleetSnapshot:
        last = EngineFigures(kv_capacity_tokens=2 * 128)
        engine = EngineView(at=1.0, figures=None, last=last, restarts=restarts)
        return FleetSnapshot((ReplicaView(Replica(NAMES[0], "http://r0"), engine=engine),))

    index.record(NAMES[0], (1, 2, 3))
    index.follow(told(restarts=0), RATIOS)
    assert index.blocks(NAMES[0]) == 2
    index.follow(told(restarts=1), RATIOS)
    assert index.blocks(NAMES[0]) == 0
    index.record(NAMES[0], (1, 2, 3))
    index.follow(told(restarts=1), RATIOS)
    assert index.blocks(NAMES[0]) == 2
    index.follow(FleetSnapshot(), RATIOS)
    index.record(NAMES[0], (1, 2, 3))
    index.follow(told(restarts=0), RATIOS)
    index.follow(told(restarts=1), RATIOS)
    assert index.blocks(NAMES[0]) == 0
