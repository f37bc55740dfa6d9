from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies.least_load import LeastLoad
from gateway.core.request import RequestFacts
from gateway.core.types import Replica, ReplicaId, ReplicaView
from tests.core.nowhere import NOWHERE

FACTS = RequestFacts(RELAYED[b"/v1/completions"], "m", True, None, 10, False, b"")
VIEWS = [ReplicaView(Replica(ReplicaId(name), f"http://{name}")) for name in "abc"]


def test_the_score_is_the_requests_in_flight():
    """Requests count alike, however long; one that has ended counts no more."""
    books = Books()
    books.open(VIEWS[0].id, 99_999, 99_999)
    books.open(VIEWS[1].id, 1, 1)
    ended = books.open(VIEWS[1].id, 1, 1)
    assert LeastLoad().score(FACTS, VIEWS, books, NOWHERE) == [1, 2, 0]
    ended.close()
    assert LeastLoad().score(FACTS, VIEWS, books, NOWHERE) == [1, 1, 0]


def test_the_reason_is_load_and_nothing_is_learnt():
    """Recording a choice changes no score: the books know."""
    policy = LeastLoad()
    policy.record(FACTS, VIEWS[0].id)
    assert policy.score(FACTS, VIEWS, Books(), NOWHERE) == [0, 0, 0]
    assert policy.reason(FACTS, VIEWS, [0, 0, 0], 0, NOWHERE) == "load"
