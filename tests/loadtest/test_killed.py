"""When `make killed` calls an answer right, and how long a seam may be. Its processes are run by hand."""

import json

import pytest

from gateway.emulator.chat import Chat
from gateway.emulator.cost import EngineParams
from gateway.emulator.prompts import Served, chat
from loadtest.compare.workload import Planned, plan
from loadtest.killed.__main__ import named
from loadtest.killed.faults import FAULTS
from loadtest.killed.report import HEADS, Heard, Told, head, prefill_s, read, records, row, seams

PARAMS = EngineParams()


def heard(*, lost: int | None = None) -> Heard:
    """The right answer, an event each 10 ms and one pause of 200 ms; without one of its events if `lost` says so."""
    (planned, *_) = named(plan("chat", rate_per_s=2.0, duration_s=5.0, seed=1))
    shape = Chat(chat(planned.raw.partition(b"\r\n\r\n")[2], Served()), "k0", 1)
    told = shape.opening() + b"".join([shape.tokens(0, 1) for _ in shape.answers[0].ids]) + shape.closing()
    events = [block + b"\n\n" for block in told.split(b"\n\n")[:-1]]
    times = [1.0 + 0.01 * number + (0.2 if number > 5 else 0.0) for number in range(len(events))]
    pieces = [piece for number, piece in enumerate(zip(times, events, strict=True)) if number != lost]
    return Heard(planned, 0.9, 1.0, times[-1], 200, len(events), True, pieces=pieces)


def test_a_request_has_a_name() -> None:
    """By which its line in the gateway's log is found; nothing else of it changes."""
    planned = plan("chat", rate_per_s=2.0, duration_s=5.0, seed=1)
    for number, (before, after) in enumerate(zip(planned, named(planned), strict=True)):
        assert after.raw.replace(b"x-request-id: k%d\r\n" % number, b"") == before.raw
        assert after.raw.partition(b"\r\n\r\n")[0].count(b"x-request-id") == 1


def test_the_right_answer() -> None:
    """With its longest gap, and when that ended."""
    told = read(heard())
    assert told.wrong is None
    assert (told.gap_s, told.gap_at_s) == (pytest.approx(0.21), pytest.approx(1.26))


@pytest.mark.parametrize(("lost", "why"), [(9, "another text"), (-1, "without [DONE]"), (-2, "usage of None")])
def test_a_wrong_answer(lost: int, why: str) -> None:
    """A token that is lost, an end that is missing, a usage that does not come."""
    count = len(heard().pieces)
    wrong = read(heard(lost=lost % count)).wrong
    assert wrong is not None
    assert why in wrong


def test_a_prefill_takes_what_its_steps_take() -> None:
    """More tokens than a step can take are two steps."""
    assert prefill_s(PARAMS, 1000) == pytest.approx(0.001 + 12e-6 + 1000 * 23e-6 + 1000 * 500 * 1.05e-9)
    assert prefill_s(PARAMS, 16000) > 16000 * 23e-6
    assert prefill_s(PARAMS, 0) == 0


def record(number: int, resumed: int, replica: str = "r1", cached: int | None = None) -> dict[str, object]:
    return {
        "request_id": f"k{number}",
        "resumed": resumed,
        "replica": replica,
        "attempts": 2,
        "cached_tokens": cached,
    }


def test_what_is_resumed_together_is_computed_together() -> None:
    """At one replica, at the same time, and not in its cache; a hang may take its time-out besides."""
    told = {
        "k0": Told(None, 0.2, 1.2, 1000),
        "k1": Told(None, 0.1, 1.15, 500),
        "k2": Told(None, 0.2, 1.2, 300),
        "k3": Told(None, 0.2, 9.0, 100),
        "k4": Told(None, 0.3, 1.2, 100),
    }
    done = [record(0, 50, cached=800), record(1, 10), record(2, 10, "r2"), record(3, 5), record(4, 0)]
    found = seams(told, done, 2.0)
    assert [(seam.tokens, seam.together) for seam in found] == [(1050, 760), (510, 760), (310, 310), (105, 105)]
    assert found[0].bound_s(PARAMS, 1000) == pytest.approx(2.05 + 1.5 * prefill_s(PARAMS, 1000))


def test_the_log_has_other_lines_too() -> None:
    """Those of the start, and requests that were not named here."""
    lines = ["API http://127.0.0.1:1/v1", json.dumps({"message": "ready"}), json.dumps({"request_id": "0f3a-1"})]
    assert records("\n".join([*lines, json.dumps(record(7, 0))])) == [record(7, 0)]


def test_a_row_has_a_cell_for_each_head() -> None:
    """Also where nothing was resumed."""
    outcome = heard()
    assert isinstance(outcome.planned, Planned)
    line = row(FAULTS[0], [outcome], {"k0": read(outcome)}, [record(0, 0)], params=PARAMS, idle_s=2.0)
    assert line.count("|") == len(HEADS) + 1
    assert line.startswith("| die | 1 | 0 | 0 | 1 | – | – |")
    assert head().splitlines()[1].count("|") == len(HEADS) + 1
