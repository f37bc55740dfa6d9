"""What engines and GPUs tell of themselves. A figure that is not known is `None`, never 0."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """One look at a replica's own metrics, all its engine cores taken together.

    `kv_usage_ratio`: 0 to 1. `kv_capacity_tokens`: `num_gpu_blocks * block_size`.
    `preemptions`, `prefix_queried_tokens`, `prefix_hit_tokens`: totals since it started.
    `started_at`: seconds of the epoch.
    """

    kv_usage_ratio: float | None = None
    kv_capacity_tokens: int | None = None
    running: int | None = None
    waiting: int | None = None
    preemptions: int | None = None
    prefix_queried_tokens: int | None = None
    prefix_hit_tokens: int | None = None
    started_at: float | None = None
