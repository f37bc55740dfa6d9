"""Requests and runs for the engine's tests."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gateway.emulator.engine import EngineModel, EngineParams, EngineRequest, Progress

H100 = EngineParams.named("8b-h100")
TINY = replace(H100, kv_tokens=24 * 16, max_batched_tokens=64, max_sequences=6)
"""24 blocks and a small budget, so that everything is scarce."""


def request(
    name: str, prompt: int = 40, output: int = 5, *, topic: str = "", shared: int = 0, priority: int = 0
) -> EngineRequest:
    """Its first `shared` blocks are those of the topic, the others its own."""
    full = prompt // 16
    total = (prompt + output) // 16
    chain = tuple(hash((topic if i < shared else name, i)) for i in range(total))
    return EngineRequest(name, chain[:full], prompt, output, priority, chain[full:])


@dataclass(frozen=True)
class Event:
    """A submit, or an abort of what was submitted, at a time."""

    at: float
    submit: EngineRequest | None = None
    abort: str = ""


def play(model: EngineModel, events: Iterable[Event]) -> list[Progress]:
    """All that the model reports, run until it is idle."""
    reports = []
    for event in events:
        reports += model.advance(event.at)
        if event.submit is not None:
            model.submit(event.submit, event.at)
        else:
            model.abort(event.abort, event.at)
        check_books(model)
    return reports + drain(model)


def drain(model: EngineModel) -> list[Progress]:
    reports = []
    while (at := model.next_at()) is not None:
        reports += model.advance(at)
        check_books(model)
    return reports


def check_books(model: EngineModel) -> None:
    """Free and held blocks are all blocks, and what is held is what the running sequences have."""
    pool = model._scheduler.pool
    assert pool.free >= 0
    assert pool.free + pool.held == pool.total
    named: set[int] = set()
    anonymous = 0
    for sequence in model._scheduler.running.values():
        named.update(sequence.chain[: sequence.named])
        anonymous += sequence.blocks - sequence.named
    assert pool.held == len(named) + anonymous


def milestones(reports: Iterable[Progress]) -> dict[str, list[float]]:
    """Time of the first token of each request, then that of its finish."""
    times: dict[str, list[float]] = {}
    for report in reports:
        seen = times.setdefault(report.request_id, [report.at])
        if report.finished:
            seen.append(report.at)
    return times


def produced(reports: Iterable[Progress]) -> dict[str, int]:
    tokens: dict[str, int] = defaultdict(int)
    for report in reports:
        tokens[report.request_id] += report.tokens
    return tokens
