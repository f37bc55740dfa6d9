"""A simple engine in virtual time: chunked prefill, one token a step for each running request, an LRU of prefix blocks.

Pure: every call is told what time it is. Times are seconds of that clock.
"""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EngineParams:
    """What one step costs, and how much the KV cache holds. Seconds and tokens."""

    step_fixed_s: float = 0.001
    weights_s: float = 0.006
    token_s: float = 0.000025
    sequence_s: float = 0.00002
    kv_token_s: float = 4e-8
    attention_s: float = 0.0
    kv_tokens: int = 400_000
    block_tokens: int = 16
    max_batched_tokens: int = 8192
    max_sequences: int = 256

    @classmethod
    def named(cls, name: str) -> "EngineParams":
        """The parameters known as `name`; ValueError lists the names there are."""
        known = {"8b-h100": cls(), "70b-4xh100": cls(weights_s=0.015, token_s=0.00006, kv_tokens=600_000)}
        if name not in known:
            raise ValueError(f"unknown engine {name!r}; known: {', '.join(known)}")
        return known[name]


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """`blocks`: chained hashes of the full prompt blocks. `max_tokens`: how many tokens it will generate."""

    id: str
    blocks: tuple[int, ...]
    prompt_tokens: int
    max_tokens: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Tokens that a request produced in a step that ended at `at`; `cached_tokens` of its prompt were not computed."""

    request_id: str
    tokens: int
    at: float
    finished: bool
    cached_tokens: int


@dataclass(slots=True)
class _Run:
    request: EngineRequest
    cached: int = 0
    computed: int = 0
    produced: int = 0
    share: int = field(default=0)


class EngineModel:
    """One engine. Submit and abort at any time; `advance` to `next_at` to see what came of it."""

    def __init__(self, params: EngineParams, *, policy: str = "fcfs") -> None:
        self._params = params
        self._policy = policy
        self._clock = 1.0
        self._memory = 1.0
        self._waiting: list[EngineRequest] = []
        self._running: dict[str, _Run] = {}
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._ends: float | None = None
        self.preemptions = 0
        self.prefix_queries_tokens = 0
        self.prefix_hits_tokens = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        held = sum(run.cached + run.computed + run.produced for run in self._running.values())
        return min(1.0, held / self._params.kv_tokens)

    def submit(self, request: EngineRequest, now: float) -> None:
        self._waiting.append(request)
        if self._policy == "priority":
            self._waiting.sort(key=lambda waiting: waiting.priority)
        if self._ends is None:
            self._begin(now)

    def abort(self, request_id: str, now: float) -> None:
        self._waiting = [request for request in self._waiting if request.id != request_id]
        self._running.pop(request_id, None)
        if not self._running and not self._waiting:
            self._ends = None

    def next_at(self) -> float | None:
        return self._ends

    def advance(self, now: float) -> list[Progress]:
        done: list[Progress] = []
        while self._ends is not None and self._ends <= now:
            at = self._ends
            done += self._finish(at)
            self._begin(at)
        return done

    def throttle(self, *, clock: float = 1.0, memory: float = 1.0) -> None:
        self._clock, self._memory = clock, memory

    def reset_cache(self) -> None:
        self._cache.clear()

    def _begin(self, now: float) -> None:
        budget = self._params.max_batched_tokens
        for run in self._running.values():
            missing = run.request.prompt_tokens - run.cached - run.computed
            run.share = min(missing, budget) if missing else 0
            budget -= run.share or 1
        while self._waiting and budget > 0 and len(self._running) < self._params.max_sequences:
            run = self._admit(self._waiting.pop(0))
            run.share = min(run.request.prompt_tokens - run.cached, budget)
            budget -= run.share
        if not self._running:
            self._ends = None
            return
        self._ends = now + self._step_s(self._params.max_batched_tokens - budget)

    def _admit(self, request: EngineRequest) -> _Run:
        hits = 0
        for block in request.blocks:
            if block not in self._cache:
                break
            hits += 1
        size = self._params.block_tokens
        cached = min(hits, max(0, request.prompt_tokens - 1) // size) * size
        self.prefix_queries_tokens += request.prompt_tokens
        self.prefix_hits_tokens += cached
        run = self._running[request.id] = _Run(request, cached)
        return run

    def _step_s(self, tokens: int) -> float:
        params = self._params
        held = sum(run.cached + run.computed + run.produced for run in self._running.values())
        compute = tokens * params.token_s / self._clock
        moved = (params.weights_s + held * params.kv_token_s) / self._memory
        return params.step_fixed_s + len(self._running) * params.sequence_s + compute + moved

    def _finish(self, at: float) -> list[Progress]:
        done: list[Progress] = []
        for run in list(self._running.values()):
            run.computed += run.share
            if run.cached + run.computed < run.request.prompt_tokens:
                continue
            if run.produced == 0:
                self._remember(run.request.blocks)
            run.produced += 1
            finished = run.produced >= run.request.max_tokens
            if finished:
                del self._running[run.request.id]
            done.append(Progress(run.request.id, 1, at, finished, run.cached))
        return done

    def _remember(self, blocks: tuple[int, ...]) -> None:
        for block in blocks:
            self._cache[block] = None
            self._cache.move_to_end(block)
        while len(self._cache) > self._params.kv_tokens // self._params.block_tokens:
            self._cache.popitem(last=False)
