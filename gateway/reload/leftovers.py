"""What remains of replicas that have left, and when it goes: nothing may gather over thousands of them."""

from gateway.clock import Clock
from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.slowdown import Slowness
from gateway.core.types import Replica, ReplicaId
from gateway.observability.ledger import Ledger
from gateway.observability.recent import Recent
from gateway.serving.upstream import Pool

SERIES_KEEP_S = 60.0
"""How long the series of a replica that has left can still be scraped: Prometheus asks once a minute by default, and
the last requests should be seen."""


class Leftovers:
    """`drop` at once what would be wrong of the next replica of that name; `sweep` the rest, now and then."""

    def __init__(
        self,
        board: Board,
        clock: Clock,
        books: Books,
        index: PrefixIndex,
        pool: Pool,
        slowness: Slowness,
        ledger: Ledger,
        recent: Recent,
    ) -> None:
        self._board = board
        self._clock = clock
        self._books = books
        self._index = index
        self._pool = pool
        self._slowness = slowness
        self._ledger = ledger
        self._recent = recent
        self._absent_since: dict[str, float] = {}

    def drop(self, replica: Replica) -> None:
        """The replica has left, or its name is another's now. What it still streams goes on."""
        self._index.forget(replica.id)
        self._slowness.forget(replica.id)
        self._pool.retire(replica)
        self._books.forget(replica.id)

    def sweep(self) -> None:
        """Forget what is kept under names that have been off the board for long enough. A stream that outlives its
        replica's place enters its end under that name again."""
        now = self._clock.monotonic()
        here: set[str] = {view.id for view in self._board.current.replicas}
        absent = (self._ledger.replicas() | self._recent.replicas() | self._books.replicas()) - here
        self._absent_since = {name: self._absent_since.get(name, now) for name in absent}
        for name, since in self._absent_since.items():
            self._books.forget(ReplicaId(name))
            if now - since >= SERIES_KEEP_S:
                self._ledger.forget(name)
                self._recent.forget(name)
