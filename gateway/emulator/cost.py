"""What a step of the engine costs in time, and the closed form for many alike ones in a row."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class EngineParams:
    """What one step costs, and what the engine may hold. The defaults are `8b-h100`.

    `step_fixed_s`: launch and scheduling.  `weights_s`: reading the weights once.  `token_s`: computing one token.
    `sequence_s`: per scheduled sequence.  `kv_token_s`: per KV token that a decode reads.
    `attention_s`: per (prefill token, context token) pair.  `kv_tokens`: capacity of the KV cache.
    `gpus`: how many it runs on, tensor-parallel; the figures are those of all together.
    The rest are vLLM's `--block-size`, `--max-num-batched-tokens` and `--max-num-seqs`.
    Source of the figures: the simulator behind ROUTING; not calibrated on a live engine, take ratios.
    """

    NAMES: ClassVar[tuple[str, ...]] = ("8b-h100", "70b-fp8-2h100")

    step_fixed_s: float = 1.0e-3
    weights_s: float = 5.7e-3
    token_s: float = 23e-6
    sequence_s: float = 12e-6
    kv_token_s: float = 48e-9
    attention_s: float = 1.05e-9
    kv_tokens: int = 400_000
    block_tokens: int = 16
    max_batched_tokens: int = 8192
    max_sequences: int = 256
    gpus: int = 1

    def __post_init__(self) -> None:
        if self.block_tokens < 1 or self.kv_tokens < self.block_tokens:
            raise ValueError("kv_tokens must hold at least one block, and a block at least one token")
        if not self.step_fixed_s + self.weights_s > 0:
            raise ValueError("a step must take some time: step_fixed_s or weights_s above 0")
        # vLLM's SchedulerConfig refuses this too: a step has room for one token of each running sequence.
        if not 1 <= self.max_sequences <= self.max_batched_tokens:
            raise ValueError("max_sequences must be at least 1 and at most max_batched_tokens")

    @classmethod
    def named(cls, name: str) -> "EngineParams":
        """The parameters known as `name`; ValueError lists the names there are."""
        if name == "8b-h100":
            return cls()
        if name == "70b-fp8-2h100":
            return cls(2.5e-3, 14.6e-3, 75e-6, 20e-6, 61e-9, 2.6e-9, 225_000, gpus=2)
        raise ValueError(f"unknown engine {name!r}; known: {', '.join(cls.NAMES)}")


class StepCost:
    """Seconds a step takes at the present speeds. `clock` and `memory` are shares of nominal, 1 = full speed."""

    __slots__ = ("_clock", "_memory", "_params")

    def __init__(self, params: EngineParams) -> None:
        self._params = params
        self._clock = 1.0
        self._memory = 1.0

    def throttle(self, clock: float, memory: float) -> None:
        """`clock` slows what computes (fixed, tokens, sequences, attention), `memory` what reads (weights, KV)."""
        if not (clock > 0 and memory > 0):
            raise ValueError(f"speeds must be positive, got clock={clock} memory={memory}")
        self._clock = clock
        self._memory = memory

    def step_s(self, tokens: int, sequences: int, kv_tokens: int, attention: float) -> float:
        """One step that computes `tokens` for `sequences`, its decodes reading `kv_tokens` of KV in all.

        `attention`: sum over the prefill chunks of chunk tokens * average context tokens.
        """
        params = self._params
        computing = params.step_fixed_s + sequences * params.sequence_s + attention * params.attention_s
        # Small batches wait for the weights, large ones for the arithmetic.
        batch = max(params.weights_s / self._memory, tokens * params.token_s / self._clock)
        return computing / self._clock + batch + kv_tokens * params.kv_token_s / self._memory

    def growth_s(self, decodes: int) -> float:
        """How much longer each pure decode step is than the one before: every sequence has one KV token more."""
        return decodes * self._params.kv_token_s / self._memory


def stretch_s(steps: int, first_s: float, growth_s: float) -> float:
    """Length of `steps` steps of which the first takes `first_s` and each other `growth_s` more than the one before."""
    return steps * first_s + growth_s * (steps * (steps - 1) // 2)


def steps_within(start: float, now: float, first_s: float, growth_s: float) -> int:
    """How many steps of such a stretch, begun at `start`, have ended at `now`."""
    elapsed = now - start
    if elapsed < first_s:
        return 0
    half = growth_s / 2
    slope = first_s - half
    # The positive root of half*m^2 + slope*m = elapsed, in the form that stays exact as `half` goes to 0.
    steps = int(2 * elapsed / (slope + sqrt(slope * slope + 4 * half * elapsed)))
    while start + stretch_s(steps + 1, first_s, growth_s) <= now:
        steps += 1
    while steps and start + stretch_s(steps, first_s, growth_s) > now:
        steps -= 1
    return steps
