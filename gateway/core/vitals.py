"""What engines and GPUs tell of themselves. A figure that is not known is `None`, never 0."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


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


class Reason(StrEnum):
    """Why a GPU's clocks are not at their top, in the words of dcgm-exporter's label `clock_event`."""

    IDLE = "gpu_idle"
    CLOCKS_SETTING = "clocks_setting"
    POWER_CAP = "power_cap"
    HW_SLOWDOWN = "hw_slowdown"
    SYNC_BOOST = "sync_boost"
    SW_THERMAL = "sw_thermal"
    HW_THERMAL = "hw_thermal"
    POWER_BRAKE = "hw_power_brake"
    DISPLAY_CLOCKS = "display_clocks"
    MEMORY_THERMAL = "memory_thermal"
    """AMD alone tells it."""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU as one look at a source shows it.

    `uuid`, `hosts` and `index`, `pods` (`namespace/name`): by which the config may name it.
    `busy_ratio`: share of the time in which it computed, 0 to 1.
    `reasons`: those at work now. Where a source tells none but counts, `recent`: times that each was seen in a sliding
    window; `totals`: how much of each there has been in all, in any unit.
    `xid`: the last one, 0 for none. `lost`: whether the driver has lost it, or wants it reset.
    """

    uuid: str | None = None
    hosts: frozenset[str] = frozenset()
    index: int | None = None
    pods: frozenset[str] = frozenset()
    model: str | None = None
    temp_c: float | None = None
    memory_temp_c: float | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    top_clock_mhz: float | None = None
    busy_ratio: float | None = None
    reasons: frozenset[Reason] | None = None
    recent: Mapping[Reason, float] = field(default_factory=dict)
    totals: Mapping[Reason, float] = field(default_factory=dict)
    xid: int | None = None
    lost: bool | None = None

    @property
    def names(self) -> frozenset[str]:
        """All names that the config may use for it, as `gpu_name` writes them."""
        by_index = {f"{host}:{self.index}" for host in self.hosts} if self.index is not None else set()
        return frozenset(gpu_name(name) for name in {*by_index, *self.pods, *({self.uuid} if self.uuid else ())})

    @property
    def key(self) -> str:
        """What tells it from all other GPUs."""
        return gpu_name(self.uuid) if self.uuid else min(self.names, default="")


def gpu_name(name: str) -> str:
    """A GPU's name in the form in which names are compared: exporters differ in case and in the prefix of UUIDs."""
    return name.lower().removeprefix("gpu-")


@dataclass(frozen=True, slots=True)
class GpuView:
    """What is known of one GPU of a replica. `name`: as the config has it. `source`: who told it, at second `at`.

    `slowdown`: top clock over clock while it is throttled; 1 while it is not. `None`: not known, as all else.
    """

    name: str
    source: str | None = None
    at: float | None = None
    temp_c: float | None = None
    memory_temp_c: float | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    reasons: frozenset[Reason] | None = None
    slowdown: float | None = None
    lost: bool | None = None
