from hypothesis import given
from hypothesis import strategies as st

from gateway.core.rendezvous import weight
from gateway.core.types import ReplicaId

KEYS = st.integers(0, 2**64 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(ReplicaId)
FLEETS = st.lists(NAMES, min_size=2, max_size=8, unique=True)


def winner(key: int, fleet: list[ReplicaId]) -> ReplicaId:
    return max(fleet, key=lambda replica: weight(key, replica))


@given(KEYS, NAMES)
def test_a_weight_is_a_fraction_and_stays(key, replica):
    """The claim lies in [0, 1) and is the same whenever it is asked."""
    assert 0 <= weight(key, replica) < 1
    assert weight(key, replica) == weight(key, replica)


@given(KEYS, FLEETS, st.randoms(use_true_random=False))
def test_the_order_of_the_fleet_does_not_matter(key, fleet, random):
    """Two gateways that know the same replicas in another order choose alike."""
    shuffled = random.sample(fleet, len(fleet))
    assert winner(key, shuffled) == winner(key, fleet)


@given(KEYS, FLEETS)
def test_losing_a_replica_moves_only_its_keys(key, fleet):
    """A key stays where it is unless its own replica is the one that left."""
    home = winner(key, fleet)
    for lost in fleet:
        if lost != home:
            assert winner(key, [replica for replica in fleet if replica != lost]) == home


def test_keys_spread_evenly():
    """Keys that differ little are still shared about equally: no replica of four gets a tenth more than its part."""
    fleet = [ReplicaId(f"replica-{i}") for i in range(4)]
    won = [winner(key, fleet) for key in range(4000)]
    assert all(900 <= won.count(replica) <= 1100 for replica in fleet)
