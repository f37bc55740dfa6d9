"""A gateway in the lab: the routing state that the serving path keeps, and the same `decide`, without the sockets."""

from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from gateway.core.affinity import PrefixIndex, capacity_blocks
from gateway.core.books import Books, Entry
from gateway.core.endpoints import RELAYED
from gateway.core.request import RequestFacts
from gateway.core.routing import decide
from gateway.core.types import FleetSnapshot, KvCache, Replica, ReplicaId, ReplicaState, ReplicaView, Slowdown
from gateway.lab.peers import Entrant, HeldBlocks, Scraped, Seen
from gateway.lab.text import INDEX_TOKENS
from gateway.lab.traces import TraceItem

_CHAT = RELAYED[b"/v1/chat/completions"]


def facts_of(item: TraceItem) -> RequestFacts:
    """What parsing this request's body would have told the gateway; its tokens are known exactly."""
    return RequestFacts(
        _CHAT,
        model=None,
        stream=True,
        system_key=xxhash.xxh3_64_intdigest(item.system_prompt.encode()) if item.system_prompt else None,
        prompt_tokens=item.prompt_tokens,
        hides_usage=False,
        body=b"",
        blocks=item.index_blocks,
        block_tokens=INDEX_TOKENS,
        session=item.session,
    )


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a request was sent. `work_tokens`: prefill that the gateway expects it to cost there."""

    replica: int
    work_tokens: int
    entry: Entry


class _Holding(Entry):
    """An entry that counts the blocks of its prompt as held until it is closed."""

    __slots__ = ("_blocks", "_held", "_replica")

    def __init__(
        self, books: Books, replica: ReplicaId, work_tokens: int, facts: RequestFacts, held: HeldBlocks
    ) -> None:
        super().__init__(books[replica], work_tokens, facts.prompt_tokens)
        self._held = held
        self._replica = replica
        self._blocks = facts.blocks
        held.add(replica, facts.blocks)

    def close(self) -> None:
        self._held.remove(self._replica, self._blocks)
        self._blocks = ()
        super().close()


class LabGateway:
    """Books, prefix index, policy and the fleet as this gateway sees it. Replicas are numbered from 0."""

    def __init__(self, entrant: Entrant, kv_tokens: Sequence[int]) -> None:
        self.books = Books()
        self.index = PrefixIndex()
        self._seen = Seen()
        self._wants_held = entrant.wants_held
        self._policy = entrant.make(self._seen)
        self._kv_tokens = kv_tokens
        self._replicas = [Replica(ReplicaId(f"r{n}"), f"http://r{n}") for n in range(len(kv_tokens))]
        self._numbers = {replica.id: number for number, replica in enumerate(self._replicas)}
        self._views = [ReplicaView(replica, ReplicaState.READY) for replica in self._replicas]
        self._slow: dict[int, Slowdown] = {}
        self._publish()
        for number in range(len(kv_tokens)):
            self._resize(number)

    def place(self, facts: RequestFacts) -> Placed:
        """Decide as serving does, and enter the request in books and index as it does at dispatch."""
        match = self.index.match(facts.blocks)
        replica = decide(facts, self._fleet, self.books, match, self._policy).ranked[0].id
        self._policy.record(facts, replica)
        number = self._numbers[replica]
        work = facts.uncached_tokens(match.depth(replica))
        return Placed(number, work, self.told(number, work, facts))

    def told(self, number: int, work_tokens: int, facts: RequestFacts) -> Entry:
        """A request was sent to this replica, by this gateway or by another one that says so."""
        replica = self._replicas[number].id
        self.index.record(replica, facts.blocks)
        if self._wants_held:
            return _Holding(self.books, replica, work_tokens, facts, self._seen.held)
        return self.books.open(replica, work_tokens, facts.prompt_tokens)

    def replied(self, number: int, item: TraceItem) -> None:
        """The reply is complete, and the replica holds it behind its prompt."""
        if item.reply_index_blocks:
            self.index.record(self._replicas[number].id, item.index_blocks + item.reply_index_blocks)

    def scraped(self, readings: Sequence[Scraped | None]) -> None:
        """What the engines' metrics say, in the replicas' order; `None`: that one does not answer."""
        for number, reading in enumerate(readings):
            view = self._views[number]
            if reading is not None:
                self._seen.scraped[view.id] = reading
                kv = KvCache(self._kv_tokens[number], reading.kv_usage, self.books[view.id].held_tokens)
                self._views[number] = ReplicaView(view.replica, view.state, kv=kv, slowdown=self._slow.get(number))
        self._publish()

    def slowed(self, number: int, slowdown: Slowdown | None) -> None:
        """GPU telemetry says so of this replica; `None`: it is as fast as it should be."""
        if slowdown is None:
            self._slow.pop(number, None)
        else:
            self._slow[number] = slowdown
        view = self._views[number]
        self._views[number] = ReplicaView(view.replica, view.state, kv=view.kv, slowdown=slowdown)
        self._publish()

    def lost(self, number: int) -> None:
        """The replica refuses connections: it is out, and its cache is gone."""
        replica = self._replicas[number]
        self.index.forget(replica.id)
        self._seen.scraped.pop(replica.id, None)
        self._views[number] = ReplicaView(replica, ReplicaState.EJECTED)
        self._publish()

    def rejoined(self, number: int) -> None:
        """It answers its probes again, with an empty cache."""
        self._resize(number)
        self._views[number] = ReplicaView(self._replicas[number], ReplicaState.READY, slowdown=self._slow.get(number))
        self._publish()

    def _resize(self, number: int) -> None:
        self.index.resize(self._replicas[number].id, capacity_blocks(self._kv_tokens[number]))

    def _publish(self) -> None:
        self._fleet = FleetSnapshot(tuple(self._views))
