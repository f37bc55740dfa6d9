"""The nouns of the gateway: what a replica is, what is known of it, what a request asks, what was decided."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from gateway.core.vitals import EngineFigures, GpuView

ReplicaId = NewType("ReplicaId", str)


class ReplicaState(StrEnum):
    """Whether a replica may take traffic. `gateway_replica_state` shows it."""

    READY = "ready"
    WARMING = "warming"
    SUSPECT = "suspect"
    EJECTED = "ejected"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine process, as configured. `url` is scheme, host and port, without a path. No repr shows the key."""

    id: ReplicaId
    url: str
    engine: str = "vllm"
    gpus: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    cost_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class KvCache:
    """A replica's KV cache, as scraped.

    `capacity_tokens`: `num_gpu_blocks * block_size` of `vllm:cache_config_info`.
    `usage_ratio`: 0 to 1. `held_tokens`: K of this gateway's own books at the time of that scrape.
    """

    capacity_tokens: int
    usage_ratio: float
    held_tokens: int


@dataclass(frozen=True, slots=True)
class EngineView:
    """What a replica's engine told of itself at monotonic second `at`.

    `figures`: `None` once they are too old to go by. `last`: the same, however old.
    `preempted_at`: when a look first showed the newest preemption; `None` if there was none while we looked.
    `restarts`: how often the engine was seen to have been started anew, so that its KV cache is empty.
    """

    at: float
    figures: EngineFigures | None
    last: EngineFigures
    preempted_at: float | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Slowdown:
    """How many times slower than nominal a replica prefills and decodes; 1 is nominal."""

    prefill: float = 1.0
    decode: float = 1.0


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What is known of a replica now.

    `models`: names it serves; `None` while it has never answered.
    `failures`: probes failed in a row.
    `seen_at`: monotonic seconds of the last good answer; `None` if there was none.
    `kv`, `slowdown`: `None` while they are not known; it is then priced as a nominal replica with room.
    `engine`: `None` while it has never told. `learned`: the part of `slowdown` that our own streams tell.
    `gpus`: those that its config names. `gpu_lost`: whether one of them is lost, wants a reset, or met a fatal XID.
    """

    replica: Replica
    state: ReplicaState = ReplicaState.SUSPECT
    models: frozenset[str] | None = None
    failures: int = 0
    seen_at: float | None = None
    kv: KvCache | None = None
    slowdown: Slowdown | None = None
    engine: EngineView | None = None
    learned: Slowdown | None = None
    gpus: tuple[GpuView, ...] = ()
    gpu_lost: bool | None = None

    @property
    def id(self) -> ReplicaId:
        return self.replica.id


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """All replicas at one instant; never changed, only replaced."""

    replicas: tuple[ReplicaView, ...] = ()


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of a score, in the policy's unit, and what it means to an operator."""

    name: str
    value: float
    words: str


@dataclass(frozen=True, slots=True)
class ModelsReading:
    """What one look at a replica's model list gave: `models` is `None` when it did not answer rightly."""

    replica: ReplicaId
    models: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class OutcomeReading:
    """How a request's attempt went, as far as the replica's health is concerned.

    `reachable`: it answered, however badly; `False`: refused, reset or cut.
    """

    replica: ReplicaId
    reachable: bool


@dataclass(frozen=True, slots=True)
class EngineReading:
    """One look at a replica's own metrics. `held_tokens`: K of this gateway's books at that time."""

    replica: ReplicaId
    figures: EngineFigures
    held_tokens: int


Reading = ModelsReading | OutcomeReading | EngineReading
