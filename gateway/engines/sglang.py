"""SGLang, started with `--enable-metrics`. Source: its docs/references/production_metrics.md and metrics collector."""

from gateway.core.vitals import EngineFigures
from gateway.engines.exposition import samples
from gateway.engines.page import Page, ratio

RUNNING = ("sglang:num_running_reqs",)
WAITING = ("sglang:num_queue_reqs",)
KV_USAGE = ("sglang:token_usage",)
CAPACITY = ("sglang:max_total_num_tokens",)
RETRACTED = ("sglang:num_retracted_requests_total",)
PROMPT = ("sglang:prompt_tokens_total",)
CACHED = ("sglang:cached_tokens_total",)
STARTED = ("process_start_time_seconds",)

NAMES = (*RUNNING, *WAITING, *KV_USAGE, *CAPACITY, *RETRACTED, *PROMPT, *CACHED, *STARTED)

FIRST_RANK = {"tp_rank": "0", "pp_rank": "0"}
"""The ranks of one tensor-parallel group tell the same thing each; those of data parallelism (`dp_rank`) do not."""


class Sglang:
    """A preemption is a retraction here."""

    metrics_path = "/metrics"

    def read(self, page: bytes, wall: float) -> EngineFigures | None:
        found = Page(samples(page, NAMES), wall)
        if not found.has("sglang:"):
            return None
        return EngineFigures(
            kv_usage_ratio=ratio(found.mean(*KV_USAGE, **FIRST_RANK)),
            kv_capacity_tokens=found.count(*CAPACITY, **FIRST_RANK) or None,
            running=found.count(*RUNNING, **FIRST_RANK),
            waiting=found.count(*WAITING, **FIRST_RANK),
            preemptions=found.count(*RETRACTED, **FIRST_RANK),
            prefix_queried_tokens=found.count(*PROMPT, **FIRST_RANK),
            prefix_hit_tokens=found.count(*CACHED, **FIRST_RANK),
            started_at=found.total(*STARTED),
        )
