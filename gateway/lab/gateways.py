"""A gateway in the lab: the routing state that the serving path keeps, and the same `decide`, without the sockets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xxhash

from gateway.core.affinity import PrefixIndex, capacity_blocks
from gateway.core.books import Books, Entry
from gateway.core.endpoints import RELAYED
from gateway.core.request import RequestFacts
from gateway.core.routing import decide
from gateway.core.slowdown import Pace, Slowness, Stride, used
from gateway.core.types import FleetSnapshot, KvCache, Replica, ReplicaId, ReplicaState, ReplicaView, Slowdown
from gateway.lab.entrants import Entrant
from gateway.lab.peers import HeldBlocks, Scraped, Seen
from gateway.lab.text import INDEX_TOKENS
from gateway.lab.traces import TraceItem

_CHAT = RELAYED[b"/v1/chat/completions"]
_MODELS = frozenset({"lab"})


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
    stride: Stride


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
    """Books, prefix index, policy and the fleet as this gateway sees it. Replicas are numbered from 0.

    `learn`: whether the slow-down of replicas is learned from the timing of its own streams.
    """

    def __init__(self, entrant: Entrant, kv_tokens: Sequence[int], *, learn: bool = False) -> None:
        self.books = Books()
        self.index = PrefixIndex()
        self._seen = Seen()
        self._wants_held = entrant.wants_held
        self._policy = entrant.make(self._seen)
        self._kv_tokens = kv_tokens
        self._replicas = [Replica(ReplicaId(f"r{n}"), f"http://r{n}") for n in range(len(kv_tokens))]
        self.replica_ids = [replica.id for replica in self._replicas]
        self._numbers = {replica: number for number, replica in enumerate(self.replica_ids)}
        self._learns = learn
        self._slowness = Slowness(learn=learn)
        self._paces: dict[int, Pace] = {}
        self._gpu: dict[int, float] = {}
        self._views = [self._view(number) for number in range(len(kv_tokens))]
        self._publish()
        for number in range(len(kv_tokens)):
            self._resize(number)

    def place(self, facts: RequestFacts, now: float) -> Placed:
        """Decide as serving does, and enter the request in books and index as it does at dispatch."""
        match = self.index.match(facts.blocks)
        replica = decide(facts, self._fleet, self.books, match, self._policy).ranked[0].id
        self._policy.record(facts, replica)
        number = self._numbers[replica]
        work = facts.uncached_tokens(match.depth(replica))
        stride = self._slowness.sent(replica, self.books[replica], work, now)
        self._paces[number] = stride.pace
        return Placed(number, work, self.told(number, work, facts), stride)

    def told(self, number: int, work_tokens: int, facts: RequestFacts) -> Entry:
        """A request was sent to this replica, by this gateway or by another one that says so."""
        replica = self.replica_ids[number]
        self.index.record(replica, facts.blocks)
        if self._wants_held:
            return _Holding(self.books, replica, work_tokens, facts, self._seen.held)
        return self.books.open(replica, work_tokens, facts.prompt_tokens)

    def replied(self, number: int, item: TraceItem) -> None:
        """The reply is complete, and the replica holds it behind its prompt."""
        if item.reply_index_blocks:
            self.index.record(self.replica_ids[number], item.index_blocks + item.reply_index_blocks)

    def gap(self, number: int, gap_s: float, now: float) -> None:
        """So long after the one before, a chunk came in every stream that this gateway has there."""
        pace = self._paces.get(number)
        if pace is not None and now >= pace.next_at and self.books[self.replica_ids[number]].in_flight:
            pace.gap(gap_s, now)

    def scraped(self, readings: Sequence[Scraped | None], now: float) -> None:
        """What the engines' metrics say, in the replicas' order; `None`: that one does not answer.

        As serving does then, this also takes up what was learned since.
        """
        learned: Mapping[ReplicaId, Slowdown] = {}
        if self._learns:
            self._slowness.settle(self.replica_ids, now)
            learned = self._slowness.learned(self._fleet)
        for number, reading in enumerate(readings):
            if reading is not None:
                replica = self.replica_ids[number]
                self._seen.scraped[replica] = reading
                kv = KvCache(self._kv_tokens[number], reading.kv_usage, self.books[replica].held_tokens)
                self._views[number] = self._view(number, self._views[number].state, kv, learned.get(replica))
        self._publish()

    def slowed(self, number: int, ratio: float) -> None:
        """GPU telemetry says that this replica is so many times slower than it should be; 1: as fast."""
        self._gpu[number] = ratio
        view = self._views[number]
        self._views[number] = self._view(number, view.state, view.kv, view.learned)
        self._publish()

    def lost(self, number: int) -> None:
        """The replica refuses connections: it is out, and its cache is gone."""
        self.index.forget(self.replica_ids[number])
        self._seen.scraped.pop(self.replica_ids[number], None)
        self._views[number] = self._view(number, ReplicaState.EJECTED)
        self._publish()

    def rejoined(self, number: int) -> None:
        """It answers its probes again, with an empty cache."""
        self._resize(number)
        self._views[number] = self._view(number)
        self._publish()

    def _view(
        self,
        number: int,
        state: ReplicaState = ReplicaState.READY,
        kv: KvCache | None = None,
        learned: Slowdown | None = None,
    ) -> ReplicaView:
        slowdown = used(learned, self._gpu.get(number))
        return ReplicaView(self._replicas[number], state, _MODELS, kv=kv, slowdown=slowdown, learned=learned)

    def _resize(self, number: int) -> None:
        self.index.resize(self.replica_ids[number], capacity_blocks(self._kv_tokens[number]))

    def _publish(self) -> None:
        self._fleet = FleetSnapshot(tuple(self._views))
