"""Sessions stay where they are."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.core.books import Books
from gateway.core.endpoints import RELAYED
from gateway.core.policies.session import Session
from gateway.core.request import RequestFacts
from gateway.core.types import Replica, ReplicaId, ReplicaState, ReplicaView
from tests.core.nowhere import NOWHERE

VIEWS = [ReplicaView(Replica(ReplicaId(f"r{i}"), f"http://r{i}"), ReplicaState.READY) for i in range(4)]
FACTS = RequestFacts(RELAYED[b"/v1/chat/completions"], "m", True, None, 10, False, b"")
SESSIONS = st.text(min_size=1, max_size=6)


def choose(facts: RequestFacts, views: list[ReplicaView], books: Books) -> tuple[ReplicaId, str]:
    policy = Session()
    scores = policy.score(facts, views, books, NOWHERE)
    best = min(range(len(views)), key=scores.__getitem__)
    return views[best].id, policy.reason(facts, views, scores, best, NOWHERE)


@given(SESSIONS, st.integers(0, 2**64 - 1))
def test_a_session_has_a_home(session: str, key: int) -> None:
    """Whatever it asks; losing another replica does not move it."""
    facts = structs.replace(FACTS, session=session)
    home, reason = choose(facts, VIEWS, Books())
    assert reason == "session"
    assert choose(structs.replace(facts, system_key=key), VIEWS, Books()) == (home, "session")
    for lost in VIEWS:
        if lost.id != home:
            assert choose(facts, [view for view in VIEWS if view is not lost], Books()) == (home, "session")


def test_a_swamped_home_is_left() -> None:
    """The bound comes before the session."""
    facts = structs.replace(FACTS, session="s")
    home, _ = choose(facts, VIEWS, Books())
    books = Books()
    for _ in range(9):
        books.open(home, 1, 1)
    other, reason = choose(facts, VIEWS, books)
    assert other != home
    assert reason == "load"
    terms = Session().terms(facts, VIEWS, books, NOWHERE)
    assert [own[1].value for own in terms] == [float(view.id == home) for view in VIEWS]


def test_without_a_session_the_system_prompt_counts() -> None:
    """And without both, the load; an empty header is none."""
    assert choose(structs.replace(FACTS, session="", system_key=7), VIEWS, Books())[1] == "session"
    books = Books()
    for view in VIEWS[:3]:
        books.open(view.id, 1, 1)
    assert choose(FACTS, VIEWS, books) == (VIEWS[3].id, "load")
    assert [own[0].value for own in Session().terms(FACTS, VIEWS, books, NOWHERE)] == [1, 1, 1, 0]
    Session().record(FACTS, VIEWS[0].id)
