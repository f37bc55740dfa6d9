"""The figures of a run: what its requests waited for, what the caches gave, how even the fleet was."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import mean

from gateway.emulator.engine import EngineParams
from gateway.lab.setup import FOREVER
from gateway.lab.simulate import Ended, Run

EVERYTHING = (0.0, FOREVER)


@dataclass(frozen=True, slots=True)
class Slo:
    """What makes a request good: its first token in time, and the others at this pace on average."""

    ttft_s: float = 0.5
    tpot_s: float = 0.05

    def met(self, ended: Ended) -> bool:
        if ended.failure or ended.first_s is None:
            return False
        tpot = (ended.end_s - ended.first_s) / max(1, ended.item.output_tokens - 1)
        return ended.first_s - ended.item.arrival_s <= self.ttft_s and tpot <= self.tpot_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of the requests that arrived in the window; durations in seconds, `None` where there was nothing to measure.

    `requests`: all of them; `failed`: refused or broken off. `goodput_ratio`: share that met the SLO.
    `hit_ratio`: share of prompt tokens that were cached.
    `busiest_work_ratio`: the busiest replica over the mean one, by the GPU seconds that its requests cost at nominal
    speed; `busiest_time_ratio`: by the time in which it had anything to do.
    """

    policy: str
    requests: int
    failed: int
    ttft_p50_s: float | None
    ttft_p90_s: float | None
    ttft_p99_s: float | None
    itl_p99_s: float | None
    goodput_ratio: float | None
    hit_ratio: float | None
    busiest_work_ratio: float | None
    busiest_time_ratio: float | None
    preemptions: int


def figures(run: Run, slo: Slo, window: tuple[float, float] = EVERYTHING) -> Figures:
    """Counted are requests that arrived in `window`, from its first second to before its last; ITL, preemptions and
    busy time are those of the whole run."""
    counted = [one for one in run.ended if window[0] <= one.item.arrival_s < window[1]]
    waits = sorted(one.first_s - one.item.arrival_s for one in counted if one.first_s is not None)
    prompts = sum(one.item.prompt_tokens for one in counted if one.cached_tokens is not None)
    return Figures(
        policy=run.policy,
        requests=len(counted),
        failed=sum(bool(one.failure) for one in counted),
        ttft_p50_s=quantile(waits, 0.5),
        ttft_p90_s=quantile(waits, 0.9),
        ttft_p99_s=quantile(waits, 0.99),
        itl_p99_s=run.itl.quantile(0.99),
        goodput_ratio=sum(map(slo.met, counted)) / len(counted) if counted else None,
        hit_ratio=sum(one.cached_tokens or 0 for one in counted) / prompts if prompts else None,
        busiest_work_ratio=_busiest(_work_s(counted, run.setup.params, run.setup.replicas)),
        busiest_time_ratio=_busiest(run.busy_s),
        preemptions=run.preemptions,
    )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` (0 to 1) of all do not exceed. `None`: there is none."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None


def _busiest(loads: Sequence[float]) -> float | None:
    return max(loads) / mean(loads) if any(loads) else None


def _work_s(ended: Sequence[Ended], params: EngineParams, replicas: int) -> list[float]:
    """What each replica's requests cost it, without what a step costs however many share it."""
    work = [0.0] * replicas
    for one in ended:
        if one.cached_tokens is not None and not one.failure:
            item = one.item
            prefill = (item.prompt_tokens - one.cached_tokens) * params.token_s
            context = item.prompt_tokens + item.output_tokens / 2
            decode = item.output_tokens * (params.sequence_s + params.token_s + context * params.kv_token_s)
            work[one.replica] += prefill + decode
    return work
