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


class Sign(StrEnum):
    """Something that tells of a replica's health; `core/health.py` says what follows from it.

    Of probes: `answered`, `unanswered`. Of requests: `served` (output came), `refused` (nobody listens), `broken`
    (reset, cut, unreachable, or no HTTP), `erred` (it failed where another replica did not, or took too long); that a
    client left is no sign. Of its GPUs: `gpu_lost`, `gpu_found`. Of its warm-up: `warmed`, `not_warmed` (no request of
    it was answered). Of people: `drain`, `resume`.
    """

    ANSWERED = "answered"
    UNANSWERED = "unanswered"
    SERVED = "served"
    REFUSED = "refused"
    BROKEN = "broken"
    ERRED = "erred"
    GPU_LOST = "gpu_lost"
    GPU_FOUND = "gpu_found"
    WARMED = "warmed"
    NOT_WARMED = "not_warmed"
    DRAIN = "drain"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a replica's state machine remembers beside the state.

    `failures`: probes failed in a row. `successes`: good probes in a row while ejected.
    `strikes`: requests that it failed in a row. `trials`: how often it was put out for those, with none served since.
    `out_until`: monotonic seconds before which good probes do not count.
    `down`: it has been out since it was last ready, so that its cache is presumed lost.
    """

    failures: int = 0
    successes: int = 0
    strikes: int = 0
    trials: int = 0
    out_until: float = 0.0
    gpu_lost: bool = False
    down: bool = False


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine process, as configured. `url` is scheme, host and port, without a path. No repr shows the key."""

    id: ReplicaId
    url: str
    engine: str = "vllm"
    gpus: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    cost_per_hour: float | None = None

    @property
    def identity(self) -> tuple[ReplicaId, str, str | None, str]:
        """With another one it is another replica under the same name: what was known of it is not true any more."""
        return self.id, self.url, self.api_key, self.engine


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
class Leaving:
    """A replica is no longer wanted since monotonic second `since`; `drained`: it was draining by command before."""

    since: float
    drained: bool


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What is known of a replica now.

    `models`: names it serves; `None` while it has never answered. `parents`: (adapter, its base) for LoRA adapters.
    `condition`: how it came to its state.
    `seen_at`: monotonic seconds of the last good answer; `None` if there was none.
    `kv`, `slowdown`: `None` while they are not known; it is then priced as a nominal replica with room.
    `engine`: `None` while it has never told. `learned`: the part of `slowdown` that our own streams tell.
    `gpus`: those that its config names. `gpu_lost`: whether one of them is lost, wants a reset, or met a fatal XID.
    `leaving`: `None` while it is wanted; see `core/membership.py`.
    """

    replica: Replica
    state: ReplicaState = ReplicaState.SUSPECT
    models: frozenset[str] | None = None
    condition: Condition = Condition()
    seen_at: float | None = None
    kv: KvCache | None = None
    slowdown: Slowdown | None = None
    parents: tuple[tuple[str, str], ...] = ()
    engine: EngineView | None = None
    learned: Slowdown | None = None
    gpus: tuple[GpuView, ...] = ()
    gpu_lost: bool | None = None
    leaving: Leaving | None = None

    @property
    def id(self) -> ReplicaId:
        return self.replica.id


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """All replicas at one instant; never changed, only replaced.

    `places`: where each replica is; empty until it is asked for, and shared with the snapshots that are folded from
    this one. `candidates`: who may be asked for a model, as far as it has been worked out for this snapshot.
    """

    replicas: tuple[ReplicaView, ...] = ()
    places: dict[ReplicaId, int] = field(default_factory=dict, compare=False, repr=False)
    candidates: dict[str | None, tuple[ReplicaView, ...]] = field(
        default_factory=dict, compare=False, repr=False, init=False
    )


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of a score, in the policy's unit, and what it means to an operator."""

    name: str
    value: float
    words: str


@dataclass(frozen=True, slots=True)
class ModelsReading:
    """What one look at a replica's model list gave: `models` is `None` when it did not answer rightly.

    `parents`: (adapter, its base) for each model that has one.
    """

    replica: ReplicaId
    models: frozenset[str] | None
    parents: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HealthReading:
    """One sign of a replica's health. `of`: whose; if another has the name by now, it says nothing of that one."""

    replica: ReplicaId
    sign: Sign
    of: Replica | None = None


@dataclass(frozen=True, slots=True)
class EngineReading:
    """One look at a replica's own metrics. `held_tokens`: K of this gateway's books at that time."""

    replica: ReplicaId
    figures: EngineFigures
    held_tokens: int


Reading = ModelsReading | HealthReading | EngineReading
