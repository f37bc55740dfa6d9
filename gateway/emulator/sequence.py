"""What the engine is asked, what it answers, and a request on its way through."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request, its contents as block hashes.

    `blocks`: chained hashes of the full prompt blocks; fewer than the prompt has: the rest is never hit.
    `max_tokens`: how many tokens it will generate, at least 1; the model knows no earlier stop.
    `priority`: lower goes first, as in vLLM; only `policy="priority"` looks at it.
    `output_blocks`: hashes of the full blocks that generated tokens complete, in order; fewer: the rest is never hit.
    """

    id: str
    blocks: tuple[int, ...]
    prompt_tokens: int
    max_tokens: int
    priority: int = 0
    output_blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """`tokens` that one request produced since its last report, the last of them at `at` seconds.

    `cached_tokens`: of its prompt, not computed when it was first scheduled (`prompt_tokens_details.cached_tokens`).
    """

    request_id: str
    tokens: int
    at: float
    finished: bool
    cached_tokens: int


class Sequence:
    """A request while the engine has it. Plain mutable state; `Scheduler` keeps the rules.

    `named` of its `blocks` are full and known by `chain`, the others anonymous.
    While `decoding`, `generated` is only up to date up to `base`: it is the scheduler's step count - `base`.
    """

    __slots__ = (
        "base",
        "blocks",
        "cached_tokens",
        "chain",
        "computed",
        "decoding",
        "finish_step",
        "generated",
        "last_at",
        "named",
        "order",
        "phase",
        "rank",
        "reported",
        "request",
        "running",
    )

    def __init__(self, request: EngineRequest, rank: tuple[int, int], block_tokens: int) -> None:
        self.request = request
        self.rank = rank
        self.order = rank[1]
        complete = len(request.blocks) == request.prompt_tokens // block_tokens
        # A hole in the chain ends what can be known: the reply's blocks hang from the prompt's.
        self.chain = request.blocks + request.output_blocks if complete else request.blocks
        self.cached_tokens: int | None = None
        self.generated = 0
        self.reported = 0
        self.last_at = 0.0
        self.running = False
        self.decoding = False
        self.base = self.phase = 0
        self.finish_step = -1
        self.restart()

    def restart(self) -> None:
        """Nothing computed, nothing held."""
        self.computed = 0
        self.named = 0
        self.blocks = 0

    @property
    def tokens(self) -> int:
        """Prompt and what was generated so far (not while decoding)."""
        return self.request.prompt_tokens + self.generated
