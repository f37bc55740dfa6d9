"""Who wants which replica: three lists, one fleet."""

import ssl

import pytest
from prometheus_client import CollectorRegistry

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.slowdown import Slowness
from gateway.core.types import FleetSnapshot, ModelsReading, Replica, ReplicaId, ReplicaState
from gateway.errors import Conflict, NotFound
from gateway.observability.ledger import Ledger
from gateway.observability.metrics import Metrics
from gateway.observability.recent import Recent
from gateway.reload.leftovers import SERIES_KEEP_S, Leftovers
from gateway.reload.roster import Roster
from gateway.serving.upstream import Pool
from tests.telemetry.fakes import ManualClock


def entry(name: str, url: str | None = None) -> Replica:
    return Replica(ReplicaId(name), url or f"http://{name}:8000")


class Fleet:
    """A roster and all that it tidies up."""

    def __init__(self, *configured: Replica) -> None:
        self.clock = ManualClock()
        self.board = Board(FleetSnapshot())
        self.books = Books()
        self.index = PrefixIndex()
        self.slowness = Slowness()
        self.pool = Pool(self.clock, ssl.create_default_context())
        self.recent = Recent(self.clock.monotonic)
        self.metrics = Metrics(CollectorRegistry(), self.board, self.books, self.index)
        self.ledger = Ledger(self.metrics, [self.recent.add])
        self.leftovers = Leftovers(
            self.board, self.clock, self.books, self.index, self.pool, self.slowness, self.ledger, self.recent
        )
        self.roster = Roster(self.board, self.clock, self.books, self.leftovers, [], drain_timeout_s=10.0)
        self.roster.configure(configured)

    def names(self) -> set[str]:
        """Who is wanted."""
        return {view.id for view in self.board.current.replicas if view.leaving is None}


def test_added_by_hand_survives_a_reload_and_wins_its_name() -> None:
    """A reload knows nothing of it; it ends where it began."""
    fleet = Fleet(entry("a"))
    fleet.roster.add(entry("b", "http://by-hand"))
    fleet.roster.configure([entry("b", "http://by-file"), entry("c")])
    assert fleet.names() == {"b", "c"}
    assert fleet.roster.wanted()[ReplicaId("b")].url == "http://by-hand"
    fleet.roster.remove(ReplicaId("b"))
    assert fleet.names() == {"c"}


def test_removed_by_hand_stays_away_while_it_is_named() -> None:
    """Until its source forgets it, or it is added by hand."""
    fleet = Fleet(entry("a"), entry("b"))
    fleet.roster.remove(ReplicaId("a"))
    fleet.roster.configure([entry("a"), entry("b")])
    assert fleet.names() == {"b"}
    fleet.roster.configure([entry("b")])
    fleet.roster.configure([entry("a"), entry("b")])
    assert fleet.names() == {"a", "b"}
    fleet.roster.remove(ReplicaId("a"))
    fleet.roster.add(entry("a"))
    assert fleet.names() == {"a", "b"}


def test_a_name_is_taken_while_it_is_wanted() -> None:
    """One that is leaving may be added again; one that nobody wants cannot be removed."""
    fleet = Fleet(entry("a"))
    with pytest.raises(Conflict):
        fleet.roster.add(entry("a", "http://other"))
    fleet.roster.remove(ReplicaId("a"))
    with pytest.raises(NotFound):
        fleet.roster.remove(ReplicaId("a"))
    fleet.roster.add(entry("a", "http://other"))
    assert fleet.names() == {"a"}


def test_what_is_found_joins_what_is_named() -> None:
    """Once by its URL, and the config's entry wins the name."""
    fleet = Fleet(entry("a"), entry("b"))
    fleet.roster.discovered([entry("x", "http://a:8000"), entry("b", "http://elsewhere"), entry("y")])
    assert {name: replica.url for name, replica in fleet.roster.wanted().items()} == {
        "a": "http://a:8000",
        "b": "http://b:8000",
        "y": "http://y:8000",
    }


@pytest.mark.slow
def test_thousands_of_joins_leave_nothing() -> None:
    """No account, address, index entry, pace or series of those that have left; also of names that come back."""
    fleet = Fleet(entry("stays"))
    fleet.board.fold(ModelsReading(ReplicaId("stays"), frozenset({"m"})), 1.0)
    for number in range(3000):
        replica = entry(f"n{number % 1000}", f"http://n{number}:8000")
        fleet.roster.discovered([replica])
        fleet.pool.take(replica)
        fleet.index.record(replica.id, [number, number + 1])
        fleet.slowness.sent(replica.id, fleet.books[replica.id], 1000, 1.0)
        fleet.ledger.series("m", replica.id, "standard", "default").requests(200).inc()
        fleet.books.open(replica.id, 10, 10).close()
        fleet.roster.discovered([])
        fleet.roster.look()
    for _ in range(2):
        fleet.leftovers.sweep()
        fleet.clock.now += SERIES_KEEP_S
    assert [view.id for view in fleet.board.current.replicas] == ["stays"]
    assert fleet.books.replicas() == fleet.books.replicas() & {"stays"}
    assert (len(fleet.index), fleet.pool._addresses, fleet.slowness._paces) == (0, {}, {})
    assert fleet.ledger.replicas() == set()
    assert 'replica="n' not in fleet.metrics.render().decode()


def test_series_can_be_scraped_for_a_while() -> None:
    """And a stream that outlives its replica's place is still in the books."""
    fleet = Fleet(entry("a"))
    fleet.ledger.series("m", "a", "standard", "default").requests(200).inc()
    stream = fleet.books.open(ReplicaId("a"), 10, 10)
    fleet.roster.remove(ReplicaId("a"))
    fleet.roster.look()
    assert [view.state for view in fleet.board.current.replicas] == [ReplicaState.DRAINING]
    fleet.clock.now += 10.0
    fleet.roster.look()
    assert fleet.board.current.replicas == ()
    fleet.leftovers.sweep()
    assert fleet.books.total_in_flight() == 1
    assert 'replica="a"' in fleet.metrics.render().decode()
    stream.close()
    fleet.clock.now += SERIES_KEEP_S
    fleet.leftovers.sweep()
    assert (fleet.books.replicas(), fleet.ledger.replicas()) == (set(), set())
