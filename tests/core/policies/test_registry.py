import pytest

from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies import POLICIES
from gateway.core.request import RequestFacts
from gateway.core.types import Replica, ReplicaId, ReplicaView
from tests.core.nowhere import NOWHERE

FACTS = RequestFacts(RELAYED[b"/v1/chat/completions"], "m", True, 42, 10, False, b"")
VIEWS = [ReplicaView(Replica(ReplicaId(name), f"http://{name}")) for name in "abc"]


def test_the_names_of_the_config():
    """These policies can be named in `routing.policy`."""
    assert {"system_prompt", "least_load", "round_robin"} <= set(POLICIES)


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_found_by_its_own_name(name):
    """The name in the config is the one in metrics and headers."""
    assert POLICIES[name]().name == name


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("count", [1, 3])
def test_every_policy_prices_every_candidate(name, count):
    """One score for each candidate, the same when asked again, and one word for the choice."""
    policy, books = POLICIES[name](), Books()
    scores = policy.score(FACTS, VIEWS[:count], books, NOWHERE)
    assert len(scores) == count
    assert policy.score(FACTS, VIEWS[:count], books, NOWHERE) == scores
    assert policy.reason(FACTS, VIEWS[:count], scores, 0, NOWHERE).isalpha()
    policy.record(FACTS, VIEWS[0].id)
