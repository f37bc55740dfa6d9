"""How slow each replica is, learned from the timing of this gateway's own streams.

Load is no slowness: a time is compared with the one that a replica so loaded should take, and the quotient with that
of its peers. Only ratios between replicas come out, so that the shape of the two predictions counts, not their scale.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from statistics import median

from gateway.core.books import Load
from gateway.core.types import FleetSnapshot, ReplicaId, Slowdown

DEAD_BAND = 0.25
"""Within it a replica is as fast as its peers. At 0.15 healthy ones were blamed, see docs/policies.md."""

SLOWEST, FASTEST = 6.0, 0.4
"""Further apart than this no two replicas are believed to be."""

TRIAL_S = 4.0
"""A slow replica may get no traffic at all, and then no sample shows its recovery: without one for so long it counts as
nominal. The first sample of the requests that it then gets brings its figure back, or begins to clear it."""

FORGET_S = 15.0
"""Without a sample for so long nothing is known any more."""

MIN_WORK_TOKENS = 256
"""Shorter prefills wait for the weights to be read, and say nothing of the arithmetic."""

PREFILL_LEAST = PREFILL_MOST = 8
PREFILL_WITHIN_S = 20.0
"""The newest eight first tokens, however long they took to come: where they come often, slowness shows soon."""

DECODE_LEAST, DECODE_MOST = 8, 40
DECODE_WITHIN_S = 6.0
DECODE_EACH_S = 0.05

CONFIDENCE = 2.0
"""Standard errors from a median to its bounds: of eight samples seven must be slow to tell, of forty 27."""

RETRY_S = 0.005
"""After a gap that tells nothing, the next look: not at each chunk while prefills go on."""

# The shapes, in units in which different GPUs and models agree within a third: their arithmetic and their memory grow
# together. Of two cost models, an 8B on one H100 and a 70B on two.
STEP_TOKENS = 170.0
"""A prefill's fixed part, the step under way and the launch of its own, in tokens of prefill: 190 and 140."""

BESIDE_TOKENS = 1.5
"""Tokens of prefill for each decode in the same steps: its own token, and its scheduling; 1.8 and 1.4."""

HELD_PER_TOKEN = 0.002
"""Tokens of prefill for each prompt token whose KV cache those decodes read: 0.003 and 0.001."""

DECODES_PER_STEP = 700.0
"""So many decodes in a batch double a step: 560 and 855."""

HELD_PER_STEP = 200_000.0
"""So many tokens of KV cache to be read double a step: 140,000 and 280,000."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of times over expected times, and its confidence bounds."""

    low: float
    middle: float
    high: float


class Pace:
    """One replica's samples. `next_at`: before it, no gap is wanted; the hot path compares one number."""

    __slots__ = (
        "_decodes",
        "_held_decode",
        "_held_prefill",
        "_load",
        "_prefilled_at",
        "_prefills",
        "decode",
        "next_at",
        "prefill",
    )

    def __init__(self, load: Load, *, learn: bool = True) -> None:
        self._load = load
        self._prefills: deque[tuple[float, float]] = deque(maxlen=PREFILL_MOST)
        self._decodes: deque[tuple[float, float]] = deque(maxlen=DECODE_MOST)
        self._prefilled_at = -inf
        self.next_at = -inf if learn else inf
        self._held_prefill: Figure | None = None
        self._held_decode: Figure | None = None
        self.prefill: Figure | None = None
        """In an unknown unit; `None` while none is known, or on trial."""
        self.decode: Figure | None = None

    def expected(self, work_tokens: int) -> float | None:
        """What a prefill that is sent now should take; `None` if it will not tell. Not yet in the books when asked."""
        load = self._load
        if work_tokens < MIN_WORK_TOKENS or load.queued_tokens > 0 or self.next_at == inf:
            return None
        return work_tokens + STEP_TOKENS + BESIDE_TOKENS * load.in_flight + HELD_PER_TOKEN * load.held_tokens

    def first_token(self, ttft_s: float, expected: float | None, now: float) -> None:
        """The first token came `ttft_s` after the request was sent."""
        self._prefilled_at = now
        if expected is not None:
            self._prefills.append((now, ttft_s / expected))

    def gap(self, gap_s: float, now: float) -> None:
        """A chunk came `gap_s` after the one before. To be told from `next_at` on."""
        load = self._load
        if load.queued_tokens > 0 or now - gap_s < self._prefilled_at:
            self.next_at = now + RETRY_S
            return
        self.next_at = now + DECODE_EACH_S
        step = 1 + load.in_flight / DECODES_PER_STEP + load.held_tokens / HELD_PER_STEP
        self._decodes.append((now, gap_s / step))

    def settle(self, now: float) -> None:
        """Bring `prefill` and `decode` up to now."""
        newest = max([samples[-1][0] for samples in (self._prefills, self._decodes) if samples], default=-inf)
        self._held_prefill = _figure(self._prefills, self._held_prefill, now, PREFILL_LEAST, PREFILL_WITHIN_S)
        self._held_decode = _figure(self._decodes, self._held_decode, now, DECODE_LEAST, DECODE_WITHIN_S)
        on_trial = now - newest > TRIAL_S
        self.prefill = None if on_trial else self._held_prefill
        self.decode = None if on_trial else self._held_decode


def _figure(
    samples: deque[tuple[float, float]], held: Figure | None, now: float, least: int, within_s: float
) -> Figure | None:
    """Of the samples of the last `within_s`; what it was before where they are fewer than `least`.

    `None` when the newest is too old.
    """
    if not samples or now - samples[-1][0] > FORGET_S:
        samples.clear()
        return None
    values = sorted([value for at, value in samples if now - at <= within_s])
    if len(values) < least:
        return held
    # The order statistics that enclose the median, whatever the distribution: the count below it is binomial.
    beyond = int(len(values) / 2 - CONFIDENCE * sqrt(len(values)) / 2)
    return Figure(values[beyond], values[len(values) // 2], values[-1 - beyond])


@dataclass(slots=True)
class Stride:
    """One request on its way: what its first token is compared with."""

    pace: Pace
    sent_at: float
    expected: float | None

    def first_token(self, now: float) -> None:
        self.pace.first_token(now - self.sent_at, self.expected, now)


@dataclass(slots=True)
class Slowness:
    """The paces of all replicas. With `learn` off nothing is kept and nothing is known."""

    learn: bool = True
    _paces: dict[ReplicaId, Pace] = field(default_factory=dict, init=False)

    def sent(self, replica: ReplicaId, load: Load, work_tokens: int, now: float) -> Stride:
        """A request goes to a replica now, and is not in its books, `load`, yet."""
        pace = self._paces.get(replica)
        if pace is None:
            pace = self._paces[replica] = Pace(load, learn=self.learn)
        return Stride(pace, now, pace.expected(work_tokens))

    def forget(self, replica: ReplicaId) -> None:
        """The replica has left, or another engine has its name."""
        self._paces.pop(replica, None)

    def settle(self, replicas: Iterable[ReplicaId], now: float) -> None:
        """Bring the figures of these replicas up to now: what costs time, 20 µs for each."""
        for replica in replicas:
            pace = self._paces.get(replica)
            if pace is not None:
                pace.settle(now)

    def learned(self, fleet: FleetSnapshot) -> dict[ReplicaId, Slowdown]:
        """The slow-down of each replica that can be compared with a peer: one that serves the same models."""
        for replica in self._paces.keys() - {view.id for view in fleet.replicas}:
            del self._paces[replica]
        peers: dict[frozenset[str], list[ReplicaId]] = {}
        for view in fleet.replicas:
            if view.models and view.id in self._paces:
                peers.setdefault(view.models, []).append(view.id)
        found: dict[ReplicaId, Slowdown] = {}
        for group in peers.values():
            found |= self._compared(group)
        return found

    def _compared(self, group: Sequence[ReplicaId]) -> dict[ReplicaId, Slowdown]:
        paces = [self._paces[replica] for replica in group]
        prefill = _ratios([pace.prefill for pace in paces])
        decode = _ratios([pace.decode for pace in paces])
        return {
            replica: Slowdown(own if own is not None else other or 1.0, other if other is not None else 1.0)
            for replica, own, other in zip(group, prefill, decode, strict=True)
            if own is not None or other is not None
        }


def used(learned: Slowdown | None, gpu: float | None) -> Slowdown | None:
    """The larger of both: they see the same cause, so that a product would count it twice.

    GPUs that are well take nothing off what was learned: some causes show in no telemetry.
    """
    if gpu is None or (gpu <= 1.0 and learned is not None):
        return learned
    own = learned or Slowdown()
    return Slowdown(max(own.prefill, gpu), max(own.decode, gpu))


def _ratios(figures: Iterable[Figure | None]) -> list[float | None]:
    """Each as a multiple of the group's median; `None` where it, or anything to compare it with, is not known."""
    values = list(figures)
    known = [value.middle for value in values if value is not None]
    if len(known) < 2 or not (middle := median(known)) > 0:
        return [None] * len(values)
    return [None if value is None else _ratio(value, middle) for value in values]


def _ratio(figure: Figure, middle: float) -> float:
    """1 unless all that its median may be is outside the dead band."""
    if figure.low <= middle * (1 + DEAD_BAND) and figure.high >= middle * (1 - DEAD_BAND):
        return 1.0
    return min(SLOWEST, max(FASTEST, figure.middle / middle))
