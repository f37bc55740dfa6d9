"""Which sequences a step serves: vLLM V1's scheduler (`vllm/v1/core/sched/scheduler.py`), without the tensors."""

from dataclasses import dataclass, field
from heapq import heappop, heappush

from gateway.emulator.cost import EngineParams
from gateway.emulator.decoders import Decoders
from gateway.emulator.kv import BlockPool
from gateway.emulator.sequence import EngineRequest, Sequence


@dataclass(slots=True)
class StepPlan:
    """One step as scheduled: `decodes` sequences get a token each, `chunks` of prompts are computed.

    `attention`: sum of chunk tokens * average context. `preempted`: those who lost their blocks to it.
    """

    decodes: int = 0
    kv_tokens: int = 0
    tokens: int = 0
    attention: float = 0.0
    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)


class Scheduler:
    """Running and waiting sequences and their blocks. It counts steps and knows no time."""

    def __init__(self, params: EngineParams, *, by_priority: bool) -> None:
        self._params = params
        self._by_priority = by_priority
        self.pool = BlockPool(params.kv_tokens // params.block_tokens)
        self.decoders = Decoders(params.block_tokens)
        self.running: dict[str, Sequence] = {}
        self.preemptions = self.queries_tokens = self.hits_tokens = 0
        self._known: dict[str, Sequence] = {}
        self._arrivals = 0
        # One heap serves both policies: a preempted sequence goes to the front because it came before all who wait.
        self._waiting: list[tuple[tuple[int, int], Sequence]] = []
        self._partial: Sequence | None = None
        """The one whose prompt did not fit into the last step's budget. There is never a second one."""
        self._blocked = False
        """The head of the queue does not fit, and nothing was given back since: no use to ask again."""

    @property
    def waiting(self) -> int:
        return len(self._known) - len(self.running)

    def add(self, request: EngineRequest) -> None:
        """Queue a request. ValueError if its id is in use, or it could never run."""
        if request.id in self._known:
            raise ValueError(f"request {request.id!r} is in the engine already")
        if request.prompt_tokens < 1 or request.max_tokens < 1:
            raise ValueError("prompt_tokens and max_tokens must be at least 1")
        size = self._params.block_tokens
        if len(request.blocks) > request.prompt_tokens // size:
            raise ValueError(f"{len(request.blocks)} full blocks given for {request.prompt_tokens} prompt tokens")
        if request.prompt_tokens + request.max_tokens > self.pool.total * size:
            raise ValueError(f"prompt and output exceed the KV cache of {self.pool.total * size} tokens")
        self._arrivals += 1
        sequence = Sequence(request, (request.priority if self._by_priority else 0, self._arrivals), size)
        self._known[request.id] = sequence
        heappush(self._waiting, (sequence.rank, sequence))
        self._blocked = False

    def remove(self, request_id: str) -> None:
        """Forget a request and give its blocks back; its part of a step under way is lost. Unknown: nothing happens."""
        sequence = self._known.pop(request_id, None)
        if sequence is None:
            return
        if sequence.running:
            self._release(sequence)
        self._blocked = False

    def plan(self) -> StepPlan | None:
        """Schedule the next step, running sequences first, and give it its blocks. `None`: there is nothing to do."""
        if not self._known:
            return None
        plan = StepPlan()
        self._grow_due(plan)
        budget = self._params.max_batched_tokens - self.decoders.count
        if self._partial is not None:
            budget -= self._continue(self._partial, budget, plan)
        # schedule(): "if not preempted_reqs:", a step that preempts admits nobody.
        if not plan.preempted:
            self._admit(budget, plan)
        plan.decodes = self.decoders.count
        plan.kv_tokens = self.decoders.context + plan.decodes
        plan.tokens += plan.decodes
        return plan

    def stretch(self) -> int:
        """How many steps like the one just planned may follow without a decision, that one included. At least 1.

        It ends with the first finish, or before a step whose blocks may not be free.
        """
        full = len(self.running) >= self._params.max_sequences
        if self._partial is not None or (self.waiting and not (self._blocked or full)):
            return 1
        return self.decoders.steps_alike(self.pool.free)

    def grow_ahead(self, steps: int) -> None:
        """Give the decoding sequences their blocks for `steps` steps after the planned one, as `stretch` allowed."""
        for sequence in self.decoders.due_in_turn(2, steps):
            self._grow(sequence)

    def complete(self, steps: int, chunks: list[tuple[Sequence, int]]) -> tuple[list[Sequence], list[Sequence]]:
        """`steps` planned steps have ended: (those with a token from a prefill, decoders that are finished)."""
        finished = self.decoders.advance(steps)
        for sequence in finished:
            self._retire(sequence)
        prefilled = []
        for sequence, chunk in chunks:
            # Aborted in mid-step: its tokens are computed and thrown away.
            if sequence.running:
                sequence.computed += chunk
                if sequence.computed == sequence.tokens:
                    prefilled.append(sequence)
        for sequence in prefilled:
            if sequence is self._partial:
                self._partial = None
            sequence.generated += 1
            if sequence.generated == sequence.request.max_tokens:
                self._retire(sequence)
            else:
                self.decoders.start(sequence)
        return prefilled, finished

    def generated(self, sequence: Sequence) -> int:
        """Tokens it has produced so far."""
        return self.decoders.steps - sequence.base if sequence.decoding else sequence.generated

    def _grow_due(self, plan: StepPlan) -> None:
        due = self.decoders.due(1)
        if len(due) <= self.pool.free:
            for sequence in due:
                self._grow(sequence)
            return
        # Not all can have one: in running order, each takes a block from the last, until it is itself the last.
        wanting = set(due)
        for sequence in [one for one in self.running.values() if one in wanting]:
            while sequence.decoding and not self.pool.free:
                self._preempt(self._victim(), plan)
            if sequence.decoding:
                self._grow(sequence)

    def _continue(self, sequence: Sequence, budget: int, plan: StepPlan) -> int:
        """The next chunk of a prompt that is partly computed; returns its tokens, 0 if it was preempted instead."""
        chunk = min(sequence.tokens - sequence.computed, budget)
        wanted = -(-(sequence.computed + chunk) // self._params.block_tokens) - sequence.blocks
        while wanted > self.pool.free:
            victim = self._victim()
            self._preempt(victim, plan)
            if victim is sequence:
                return 0
        self._schedule_chunk(sequence, chunk, plan)
        return chunk

    def _admit(self, budget: int, plan: StepPlan) -> None:
        size = self._params.block_tokens
        pool = self.pool
        while budget and not self._blocked and len(self.running) < self._params.max_sequences:
            sequence = self._head()
            if sequence is None:
                return
            # get_computed_blocks(): the last token is always computed, for its logits.
            hits, idle = pool.match(sequence.chain, (sequence.tokens - 1) // size)
            # allocate_slots(full_sequence_must_fit=True), the default of scheduler_reserve_full_isl: all of it must
            # fit, not only its first chunk. Hit blocks that are free leave the free ones too.
            if -(-sequence.tokens // size) - hits + idle > pool.free:
                self._blocked = True
                return
            heappop(self._waiting)
            pool.hold(sequence.chain, hits)
            sequence.computed = hits * size
            sequence.named = sequence.blocks = hits
            sequence.running = True
            self.running[sequence.request.id] = sequence
            self._count_hits(sequence)
            chunk = min(sequence.tokens - sequence.computed, budget)
            if chunk < sequence.tokens - sequence.computed:
                self._partial = sequence
            self._schedule_chunk(sequence, chunk, plan)
            budget -= chunk

    def _count_hits(self, sequence: Sequence) -> None:
        # vLLM counts resumed requests apart (PrefixCacheStats.preempted_*), so only the first time counts here.
        if sequence.cached_tokens is None:
            sequence.cached_tokens = sequence.computed
            self.queries_tokens += sequence.request.prompt_tokens
            self.hits_tokens += sequence.computed

    def _schedule_chunk(self, sequence: Sequence, chunk: int, plan: StepPlan) -> None:
        size = self._params.block_tokens
        end = sequence.computed + chunk
        wanted = -(-end // size) - sequence.blocks
        self.pool.take(wanted)
        sequence.blocks += wanted
        # Blocks can be hit as soon as they are scheduled, by the next in the same step too: allocate_slots() caches
        # them before they are computed.
        self._name(sequence, end // size)
        plan.chunks.append((sequence, chunk))
        plan.tokens += chunk
        plan.attention += chunk * (sequence.computed + chunk / 2)

    def _head(self) -> Sequence | None:
        """The next to be admitted; the heap still holds what was aborted."""
        while self._waiting:
            sequence = self._waiting[0][1]
            if self._known.get(sequence.request.id) is sequence:
                return sequence
            heappop(self._waiting)
        return None

    def _victim(self) -> Sequence:
        # fcfs: running.pop(); priority: max by (priority, arrival_time).
        if self._by_priority:
            return max(self.running.values(), key=lambda sequence: sequence.rank)
        return next(reversed(self.running.values()))

    def _preempt(self, sequence: Sequence, plan: StepPlan) -> None:
        """Recompute later: its blocks are free, what it generated stays."""
        self._release(sequence)
        self.preemptions += 1
        plan.preempted.append(sequence)
        heappush(self._waiting, (sequence.rank, sequence))

    def _release(self, sequence: Sequence) -> None:
        if sequence.decoding:
            self.decoders.stop(sequence)
        if sequence is self._partial:
            self._partial = None
        self._name(sequence, sequence.computed // self._params.block_tokens)
        self.pool.release(sequence.chain, sequence.named, sequence.blocks - sequence.named)
        sequence.restart()
        sequence.running = False
        del self.running[sequence.request.id]
        self._blocked = False

    def _retire(self, sequence: Sequence) -> None:
        self._release(sequence)
        del self._known[sequence.request.id]

    def _grow(self, sequence: Sequence) -> None:
        # The block before this one is full now. vLLM caches it one step earlier; only another request with the same
        # unfinished reply could tell.
        self._name(sequence, sequence.blocks)
        self.pool.take(1)
        sequence.blocks += 1

    def _name(self, sequence: Sequence, full: int) -> None:
        stop = min(full, len(sequence.chain))
        if stop > sequence.named:
            self.pool.name(sequence.chain, sequence.named, stop)
            sequence.named = stop
