"""What the clients saw, beside what the gateway did without their notice. Nothing here measures."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.emulator.cost import EngineParams, StepCost
from gateway.emulator.expected import expect
from loadtest.answers import Answer, BadAnswer, read_stream
from loadtest.compare.client import Outcome
from loadtest.killed.faults import Fault

CHAT = "/v1/chat/completions"
FACTOR, SLACK_S = 1.5, 0.05
"""The bound of a seam's gap: so many times the prefill of what is resumed, and so much more."""
HEADS = (
    "fault", "requests", "wrong", "resumed", "failovers", "gap p50 ms", "largest", "its bound", "over",
    "together", "over", "largest without a seam", "TTFT p99 ms",
)  # fmt: skip

Record = dict[str, Any]


@dataclass(slots=True)
class Heard(Outcome):
    """An outcome that keeps what came, and when."""

    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    def hear(self, body: bytes, now_s: float) -> None:
        self.pieces.append((now_s, body))


@dataclass(frozen=True, slots=True)
class Told:
    """One answer, read. `wrong`: why it is not the right one, or `None`. `gap_s`: the longest between two reads with
    output, and `gap_at_s`, when it ended; 0 where there is none. `prompt_tokens`: what its prompt really has."""

    wrong: str | None
    gap_s: float
    gap_at_s: float
    prompt_tokens: int


class _Times:
    """The pieces in their order, and when the last one came."""

    def __init__(self, pieces: Sequence[tuple[float, bytes]]) -> None:
        self._pieces = pieces
        self.now_s = 0.0

    def __iter__(self) -> Iterator[bytes]:
        for self.now_s, piece in self._pieces:  # noqa: B020
            yield piece


def read(outcome: Heard) -> Told:
    """Judge one answer by the text, the end and the usage that any replica would have given."""
    right = expect(CHAT, outcome.planned.raw.partition(b"\r\n\r\n")[2])
    answer, times = Answer(outcome.sent_s), _Times(outcome.pieces)
    wrong = None
    try:
        read_stream(times, answer, lambda: times.now_s)
    except BadAnswer as error:
        wrong = f"status {outcome.status}, {error}"
    if wrong is None and answer.text != right.text:
        wrong = f"another text: {len(answer.text)} characters for {len(right.text)}"
    elif wrong is None and (answer.prompt_tokens, answer.completion_tokens) != (len(right.prompt_ids), len(right.ids)):
        wrong = f"usage of {answer.prompt_tokens} and {answer.completion_tokens} tokens"
    longest, ended = 0.0, outcome.sent_s
    at = answer.first_s or 0.0
    for gap_s in answer.gaps_s:
        at += gap_s
        if gap_s > longest:
            longest, ended = gap_s, at
    return Told(wrong, longest, ended, len(right.prompt_ids))


@dataclass(frozen=True, slots=True)
class Seam:
    """One place where an answer went on elsewhere. `tokens`: its prompt and what had been told of it.

    `together`: what the other replica had to compute for all that went on there at the same time; what it found in its
    cache is not among it. An engine computes them in the same steps.
    """

    request: str
    gap_s: float
    tokens: int
    together: int
    waited_s: float

    def bound_s(self, params: EngineParams, tokens: int) -> float:
        """The largest gap that is allowed for the prefill of so many tokens."""
        return self.waited_s + FACTOR * prefill_s(params, tokens) + SLACK_S


def prefill_s(params: EngineParams, tokens: int) -> float:
    """How long it takes to compute so many tokens of which no cache knows any, in as many steps as it takes."""
    cost, total, done = StepCost(params), 0.0, 0
    while done < tokens:
        chunk = min(params.max_batched_tokens, tokens - done)
        total += cost.step_s(chunk, 1, 0, chunk * (done + chunk / 2))
        done += chunk
    return total


def seams(told: dict[str, Told], records: Iterable[Record], waited_s: float) -> list[Seam]:
    """One for each answer that was resumed: its longest gap is there. `waited_s`: what it may take to know at all."""
    resumed = [record for record in records if record["resumed"]]
    found = []
    for record in resumed:
        own = told[record["request_id"]]
        together = sum(
            told[other["request_id"]].prompt_tokens + other["resumed"] - (other["cached_tokens"] or 0)
            for other in resumed
            if other["replica"] == record["replica"] and _overlap(own, told[other["request_id"]])
        )
        tokens = own.prompt_tokens + record["resumed"]
        found.append(Seam(record["request_id"], own.gap_s, tokens, together, waited_s))
    return found


def _overlap(one: Told, other: Told) -> bool:
    return one.gap_at_s - one.gap_s < other.gap_at_s and other.gap_at_s - other.gap_s < one.gap_at_s


def records(log: str) -> list[Record]:
    """The request lines of a gateway's log, of requests that were named here."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if str(line.get("request_id", "")).startswith("k")]


def row(
    fault: Fault,
    outcomes: Sequence[Heard],
    told: dict[str, Told],
    done: Sequence[Record],
    *,
    params: EngineParams,
    idle_s: float,
) -> str:
    """One line of the table. A gap has a bound by its own text, and one by all that was resumed there together."""
    found = seams(told, done, idle_s if fault.waits else 0.0)
    worst = max(found, key=lambda seam: seam.gap_s, default=None)
    resumed = {seam.request for seam in found}
    others = max((one.gap_s for name, one in told.items() if name not in resumed), default=0.0)
    waits = sorted(one.first_s - one.sent_s for one in outcomes if one.first_s is not None)
    own = [seam.gap_s > seam.bound_s(params, seam.tokens) for seam in found]
    together = [seam.gap_s > seam.bound_s(params, seam.together) for seam in found]
    cells = [
        fault.name,
        str(len(outcomes)),
        str(sum(one.wrong is not None for one in told.values())),
        str(len(found)),
        str(sum(record["attempts"] > 1 and not record["resumed"] for record in done)),
        _ms(sorted(seam.gap_s for seam in found)[len(found) // 2] if found else None),
        _ms(worst and worst.gap_s),
        _ms(worst and worst.bound_s(params, worst.tokens)),
        str(sum(own)),
        _ms(worst and worst.bound_s(params, worst.together)),
        str(sum(together)),
        _ms(others),
        _ms(waits[int(0.99 * len(waits))] if waits else None),
    ]
    return "| " + " | ".join(cells) + " |"


def head() -> str:
    return "| " + " | ".join(HEADS) + " |\n|---|" + "---:|" * (len(HEADS) - 1)


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:,.0f}"
