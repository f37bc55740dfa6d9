from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies.round_robin import MOST_NAMES, RoundRobin
from gateway.core.request import RequestFacts
from gateway.core.types import Replica, ReplicaId, ReplicaView
from tests.core.nowhere import NOWHERE

FACTS = RequestFacts(RELAYED[b"/v1/completions"], "m", True, None, 10, False, b"")
A, B, C = (ReplicaView(Replica(ReplicaId(name), f"http://{name}")) for name in "abc")


def served(policy: RoundRobin, views: list[ReplicaView], turns: int) -> str:
    """The names chosen in so many turns; ties go to the first."""
    chosen = []
    for _ in range(turns):
        scores = policy.score(FACTS, views, Books(), NOWHERE)
        best = views[scores.index(min(scores))].id
        policy.record(FACTS, best)
        chosen.append(best)
    return "".join(chosen)


def test_each_in_turn():
    """Every replica is chosen once before any is chosen again."""
    assert served(RoundRobin(), [A, B, C], 7) == "abcabca"


def test_a_new_replica_goes_first():
    """One that was never chosen has waited longest."""
    policy = RoundRobin()
    served(policy, [A, B], 5)
    assert served(policy, [A, B, C], 4) == "cbac"


def test_a_replica_that_was_away_gets_no_more_than_its_turn():
    """Who comes back is next once, not as often as it was passed over."""
    policy = RoundRobin()
    served(policy, [A, B, C], 3)
    served(policy, [B, C], 6)
    assert served(policy, [A, B, C], 4) == "abca"


def test_asking_is_not_choosing():
    """Only a recorded choice moves the turn on."""
    policy = RoundRobin()
    policy.record(FACTS, A.id)
    assert policy.score(FACTS, [A, B], Books(), NOWHERE) == policy.score(FACTS, [A, B], Books(), NOWHERE) == [1, 0]
    assert policy.reason(FACTS, [A, B], [1, 0], 1, NOWHERE) == "turn"


def test_names_that_have_left_do_not_gather() -> None:
    """Thousands of replicas may come and go; the ones that are there still go in turn."""
    policy = RoundRobin()
    for number in range(3 * MOST_NAMES):
        policy.record(FACTS, ReplicaId(f"gone-{number}"))
        policy.record(FACTS, A.id)
    assert len(policy._last) == MOST_NAMES
    assert served(policy, [A, B], 4) == "baba"
