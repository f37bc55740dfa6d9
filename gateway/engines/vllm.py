"""vLLM. Source: 0.32 on the wire, and the names of 0.4 to 0.11 in its documentation."""

import re
from collections.abc import Mapping

from gateway.core.vitals import EngineFigures
from gateway.engines.exposition import samples
from gateway.engines.page import Page, ratio

RUNNING = ("vllm:num_requests_running",)
WAITING = ("vllm:num_requests_waiting",)
KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
PREEMPTIONS = ("vllm:num_preemptions_total",)
QUERIES = ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total")
HITS = ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total")
CACHE_CONFIG = "vllm:cache_config_info"
STARTED = ("process_start_time_seconds",)

NAMES = (*RUNNING, *WAITING, *KV_USAGE, *PREEMPTIONS, *QUERIES, *HITS, CACHE_CONFIG, *STARTED)
"""Newest first in each row: `gpu_…` was renamed in 2025, and both stood beside each other for some releases."""

_WHOLE = re.compile("[0-9]{1,12}")


class Vllm:
    """Several engine cores (data parallel) show a series each, by the label `engine`."""

    metrics_path = "/metrics"

    def read(self, page: bytes, wall: float) -> EngineFigures | None:
        found = Page(samples(page, NAMES), wall)
        if not found.has("vllm:"):
            return None
        return EngineFigures(
            kv_usage_ratio=ratio(found.mean(*KV_USAGE)),
            kv_capacity_tokens=_capacity(found.infos(CACHE_CONFIG)),
            running=found.count(*RUNNING),
            waiting=found.count(*WAITING),
            preemptions=found.count(*PREEMPTIONS),
            prefix_queried_tokens=found.count(*QUERIES),
            prefix_hit_tokens=found.count(*HITS),
            started_at=found.total(*STARTED),
        )


def _capacity(infos: list[Mapping[str, str]]) -> int | None:
    """All its labels are strings, and `None` is one of them."""
    total = 0
    for labels in infos:
        blocks, tokens = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
        if not (_WHOLE.fullmatch(blocks) and _WHOLE.fullmatch(tokens)):
            return None
        total += int(blocks) * int(tokens)
    return total or None
