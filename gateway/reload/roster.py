"""Who wants which replica, and the board that follows: the config, people on the admin port, and discovery."""

import logging
from collections.abc import Iterable, Mapping

import anyio

from gateway.clock import Clock
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.membership import Change, departed, wanted
from gateway.core.types import Replica, ReplicaId
from gateway.errors import Conflict, NotFound
from gateway.reload.leftovers import Leftovers

log = logging.getLogger("gateway.fleet")

LOOK_S = 0.2
"""How late it may be noticed that a replica which leaves has nothing in flight any more."""

SWEEP_EVERY = 50
"""Looks between two sweeps of what is left of the departed."""


class Roster:
    """Merges three lists, which are right each by itself: a name means one replica, an earlier list wins.

    1. What was added on the admin port, until it is removed there: a reload does not know of it, and does not touch it.
    2. What the config names.
    3. What discovery finds; not what an earlier list has under another name, by its URL.

    A name that was removed on the admin port stays away for as long as the config or discovery name it.
    """

    def __init__(
        self,
        board: Board,
        clock: Clock,
        books: Books,
        leftovers: Leftovers,
        configured: Iterable[Replica],
        *,
        drain_timeout_s: float,
    ) -> None:
        self._board = board
        self._clock = clock
        self._books = books
        self._leftovers = leftovers
        self._drain_timeout_s = drain_timeout_s
        self._added: dict[ReplicaId, Replica] = {}
        self._configured = _by_name(configured)
        self._found: dict[ReplicaId, Replica] = {}
        self._removed: set[ReplicaId] = set()

    def __repr__(self) -> str:
        return f"<Roster of {len(self._added)} added, {len(self._configured)} configured, {len(self._found)} found>"

    async def run(self) -> None:
        """See those off that leave, until cancelled."""
        looks = 0
        while True:
            await anyio.sleep(LOOK_S)
            self.look()
            looks = (looks + 1) % SWEEP_EVERY
            if not looks:
                self._leftovers.sweep()

    def look(self) -> None:
        """Let those go that have drained. Nothing yields between the reading of the board and its publication."""
        now = self._clock.monotonic()
        self._apply(departed(self._board.current, self._in_flight, now, self._drain_timeout_s))

    def configure(self, replicas: Iterable[Replica]) -> None:
        """The config names these now."""
        self._configured = _by_name(replicas)
        for name in self._configured.keys() & self._added.keys():
            log.warning("replica %s was added on the admin port: the config's entry of that name waits", name)
        self._follow()

    def discovered(self, replicas: Iterable[Replica]) -> None:
        """Discovery finds these now."""
        self._found = _by_name(replicas)
        self._follow()

    def add(self, replica: Replica) -> None:
        """Someone on the admin port wants it. Raises `Conflict` when a wanted replica has its name."""
        if replica.id in self.wanted():
            raise Conflict(f"there is a replica {replica.id!r} already; see GET /admin/replicas")
        self._removed.discard(replica.id)
        self._added[replica.id] = replica
        self._follow()

    def remove(self, name: ReplicaId) -> None:
        """Someone on the admin port does not want it any more. Raises `NotFound`."""
        if name not in self.wanted():
            raise NotFound(f"no replica {name!r} is wanted; see GET /admin/replicas")
        self._added.pop(name, None)
        self._removed.add(name)
        self._follow()

    def wanted(self) -> Mapping[ReplicaId, Replica]:
        named = self._configured | self._added
        urls = {replica.url for replica in named.values()}
        found = {name: replica for name, replica in self._found.items() if replica.url not in urls}
        every = found | named
        return {name: replica for name, replica in every.items() if name in self._added or name not in self._removed}

    def _follow(self) -> None:
        self._removed &= self._configured.keys() | self._found.keys()
        self._apply(wanted(self._board.current, list(self.wanted().values()), self._clock.monotonic()))

    def _apply(self, change: Change) -> None:
        """Nothing yields: the board that was read is the one that is replaced."""
        if change.snapshot is self._board.current:
            return
        self._board.publish(change.snapshot)
        for replica in change.gone:
            self._leftovers.drop(replica)
            log.info("replica %s (%s) has left", replica.id, replica.url)
        for name in change.leaving:
            log.info("replica %s is not wanted any more: it drains", name)
        urls = {view.id: view.replica.url for view in change.snapshot.replicas}
        for name in change.joined:
            log.info("replica %s (%s) joins", name, urls[name])

    def _in_flight(self, name: ReplicaId) -> int:
        return self._books[name].in_flight


def _by_name(replicas: Iterable[Replica]) -> dict[ReplicaId, Replica]:
    return {replica.id: replica for replica in replicas}
