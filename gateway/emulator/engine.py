"""One vLLM replica in virtual time: submit, abort and throttle at any moment, advance to see what came of it.

Pure: every call is told what time it is, in seconds of one clock that never goes back.
What is left out on purpose: tensors, sampling, speculative decoding, asynchronous scheduling, the KV connector.
"""

from gateway.emulator.cost import EngineParams, StepCost, steps_within, stretch_s
from gateway.emulator.gaps import ItlSummary
from gateway.emulator.schedule import Scheduler, StepPlan
from gateway.emulator.sequence import EngineRequest, Progress, Sequence

__all__ = ["EngineModel", "EngineParams", "EngineRequest", "ItlSummary", "Progress"]

POLICIES = ("fcfs", "priority")
"""vLLM's `--scheduling-policy`."""


class EngineModel:
    """One engine. A step under way is never interrupted: what arrives meanwhile is scheduled when it has ended.

    A submit to an idle engine starts a step at once, so a second one at the same instant waits for the next step.
    `milestones_only`: report first tokens and finishes only, and pass over steps that only decode in closed form.
    The times are those of the exact mode up to float rounding, and so are all counts at any time it was advanced to.
    """

    def __init__(self, params: EngineParams, *, policy: str = "fcfs", milestones_only: bool = False) -> None:
        if policy not in POLICIES:
            raise ValueError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
        self._scheduler = Scheduler(params, by_priority=policy == "priority")
        self._cost = StepCost(params)
        self._milestones_only = milestones_only
        self._plan: StepPlan | None = None
        self._start = self._end = self._now = 0.0
        self._first_s = self._growth_s = 0.0
        self._busy_s = 0.0
        self._steps = 0
        self._reports: list[Progress] = []
        self._gaps: list[tuple[float, int]] = []

    def submit(self, request: EngineRequest, now: float) -> None:
        """Queue a request. ValueError if its id is in the engine, or its prompt and output exceed the KV cache."""
        self._run_to(now)
        self._scheduler.add(request)
        self._cut()
        if self._plan is None:
            self._begin(self._now)

    def abort(self, request_id: str, now: float) -> None:
        """Forget a request; its blocks are free for the next step. Unknown or finished: nothing happens."""
        self._run_to(now)
        self._scheduler.remove(request_id)
        self._cut()

    def next_at(self) -> float | None:
        """When `advance` will have news: the end of the step under way, or of the stretch. `None`: idle."""
        return None if self._plan is None else self._end

    def advance(self, now: float) -> list[Progress]:
        """Complete every step that ends by `now`. What the requests produced, in order of time."""
        self._run_to(now)
        reports = self._reports
        self._reports = []
        return reports

    def throttle(self, *, clock: float = 1.0, memory: float = 1.0) -> None:
        """Run at these shares of nominal speed from the next step on, as counted from the last `now` that was given.

        `clock` slows what computes, `memory` what reads weights and KV. ValueError unless positive.
        """
        self._cost.throttle(clock, memory)
        self._cut()

    def reset_cache(self) -> None:
        """Forget all cached blocks that no request holds. (vLLM's /reset_prefix_cache refuses while any runs.)"""
        self._scheduler.pool.forget()

    @property
    def running(self) -> int:
        """`vllm:num_requests_running`."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """`vllm:num_requests_waiting`, the preempted ones included."""
        return self._scheduler.waiting

    @property
    def kv_usage(self) -> float:
        """`vllm:kv_cache_usage_perc`: blocks that running requests hold / all blocks, 0 to 1."""
        pool = self._scheduler.pool
        return pool.held / pool.total

    @property
    def preemptions(self) -> int:
        """`vllm:num_preemptions_total`."""
        return self._scheduler.preemptions

    @property
    def prefix_queries_tokens(self) -> int:
        """`vllm:prefix_cache_queries_total`: prompt tokens of all requests that were scheduled."""
        return self._scheduler.queries_tokens

    @property
    def prefix_hits_tokens(self) -> int:
        """`vllm:prefix_cache_hits_total`: those of them that were cached."""
        return self._scheduler.hits_tokens

    def busy_s(self, now: float) -> float:
        """Seconds up to `now` in which a step was under way."""
        under_way = max(0.0, min(now, self._end) - self._start) if self._plan is not None else 0.0
        return self._busy_s + under_way

    @property
    def newest_gap_s(self) -> float | None:
        """The newest gap between tokens, the mean one of its stretch; `None`: there was none. As `itl`."""
        return self._gaps[-1][0] if self._gaps else None

    def itl(self) -> ItlSummary:
        """The gaps between tokens so far. Kept with `milestones_only` only: elsewhere Progress tells each."""
        return ItlSummary(tuple(self._gaps))

    def forget_gaps(self) -> None:
        """Drop the gaps so far: for runs so long that they would fill the memory."""
        self._gaps.clear()

    def _run_to(self, now: float) -> None:
        self._now = max(now, self._now)
        while self._plan is not None and self._end <= self._now:
            self._complete(self._steps, self._end)
            self._begin(self._end)
        if self._steps > 1:
            self._split()

    def _begin(self, at: float) -> None:
        plan = self._plan = self._scheduler.plan()
        if plan is None:
            self._steps = 0
            return
        for sequence in plan.preempted:
            sequence.last_at = at
        sequences = plan.decodes + len(plan.chunks)
        self._first_s = self._cost.step_s(plan.tokens, sequences, plan.kv_tokens, plan.attention)
        self._growth_s = self._cost.growth_s(plan.decodes)
        self._steps = self._scheduler.stretch() if self._milestones_only and not plan.chunks else 1
        self._start = at
        self._end = at + stretch_s(self._steps, self._first_s, self._growth_s)

    def _split(self) -> None:
        """Complete the steps of the stretch that have ended, so that all counts are those of now; the rest goes on."""
        steps = min(steps_within(self._start, self._now, self._first_s, self._growth_s), self._steps - 1)
        if not steps:
            return
        ended = self._start + stretch_s(steps, self._first_s, self._growth_s)
        # The step that is under way now was given its blocks when it began.
        self._complete(steps, ended, begun=1)
        self._start = ended
        self._steps -= steps
        self._first_s += steps * self._growth_s

    def _cut(self) -> None:
        """Something changed: let the stretch end with the step under way."""
        if self._steps > 1:
            self._steps = 1
            self._end = self._start + self._first_s

    def _complete(self, steps: int, at: float, *, begun: int = 0) -> None:
        """The first `steps` steps of the stretch ended at `at`; `begun` more of it have begun."""
        assert self._plan is not None
        scheduler = self._scheduler
        scheduler.grow_ahead(steps - 1 + begun)
        self._busy_s += at - self._start
        served: list[Sequence] = []
        if not self._milestones_only:
            served = [sequence for sequence in scheduler.running.values() if sequence.decoding]
        elif scheduler.decoders.count:
            self._gaps.append(((at - self._start) / steps, steps * scheduler.decoders.count))
        prefilled, finished = scheduler.complete(steps, self._plan.chunks)
        for sequence in finished if self._milestones_only else served:
            self._report(sequence, at)
        for sequence in prefilled:
            if self._milestones_only and sequence.reported:
                self._resumed(sequence, at)
            else:
                self._report(sequence, at)

    def _resumed(self, sequence: Sequence, at: float) -> None:
        self._gaps.append((at - sequence.last_at, 1))
        if sequence.generated == sequence.request.max_tokens:
            self._report(sequence, at)

    def _report(self, sequence: Sequence, at: float) -> None:
        request = sequence.request
        generated = self._scheduler.generated(sequence)
        tokens = generated - sequence.reported
        sequence.reported = generated
        finished = generated == request.max_tokens
        self._reports.append(Progress(request.id, tokens, at, finished, sequence.cached_tokens or 0))
