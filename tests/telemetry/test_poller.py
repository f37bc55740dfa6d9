"""The loop of all readers: each replica by itself, back-off, one log line a change, and no exception ends it."""

import logging
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from gateway.core.fleet import Board
from gateway.core.types import (
    FleetSnapshot,
    HealthReading,
    ModelsReading,
    Reading,
    Replica,
    ReplicaId,
    ReplicaState,
    ReplicaView,
    Sign,
)
from gateway.telemetry.models import no_answer
from gateway.telemetry.poller import JITTER_RATIO, MAX_BACK_OFF, NoAnswer, Poller
from tests.telemetry.fakes import ManualClock, Naps, board_of, replica, run_until, state_of

pytestmark = pytest.mark.anyio


class Script:
    """Answers as it is told, and the last thing for ever; an exception is raised."""

    def __init__(self, *answers: bool | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, replica: Replica) -> Reading:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return ModelsReading(replica.id, frozenset({"m"}))


GOOD, BAD = True, NoAnswer("ConnectError refused")


def poller(board: Board, ask: Script, naps: Naps, rand: Callable[[], float] = lambda: 0.5) -> Poller:
    """A poller each 2 s; `rand` of a half is no jitter at all."""
    return Poller(board, ManualClock(), ask, no_answer, interval_s=2.0, sleep=naps, rand=rand)


async def watched(board: Board, script: Script, looks: int) -> Poller:
    """One replica's loop, until it has been asked so many times and what came of it is published."""
    naps = Naps(limit=10**9)
    built = poller(board, script, naps)
    await run_until(built.run, lambda: script.asked > looks)
    return built


async def test_the_first_round_is_at_once() -> None:
    """A replica is ready before anything has slept."""
    board, naps = board_of("r0"), Naps(limit=0)
    await run_until(poller(board, Script(GOOD), naps).run, lambda: state_of(board, "r0") is ReplicaState.READY)
    assert naps.taken == []
    assert board.current.replicas[0].seen_at == 100.0


async def test_failures_are_asked_again_soon_then_rarely() -> None:
    """Three failures take under a second; waits double up to a bound, and start afresh after a success, which is looked
    at again soon."""
    board, script = board_of("r0"), Script(*[BAD] * 8, GOOD, BAD, GOOD)
    pauses: list[float] = []

    async def nap(seconds: float) -> None:
        pauses.append(seconds)
        await anyio.lowlevel.checkpoint()

    built = Poller(board, ManualClock(), script, no_answer, interval_s=2.0, sleep=nap, rand=lambda: 0.5)
    async with anyio.create_task_group() as group:
        group.start_soon(built.watch, replica("r0"))
        with anyio.fail_after(10):
            while script.asked < 12:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert pauses[:11] == [0.25, 0.5, 1, 2, 4, 8, 2 * MAX_BACK_OFF, 2 * MAX_BACK_OFF, 0.25, 0.25, 0.25]


@pytest.mark.parametrize("rand", [0.0, 0.999])
async def test_waits_differ_by_jitter(rand: float) -> None:
    """By no more than a tenth."""
    board, naps = board_of("r0"), Naps(limit=3)
    await run_until(poller(board, Script(GOOD), naps, lambda: rand).run, naps.over.is_set)
    waits = [seconds for seconds in naps.taken if seconds != 2.0]
    assert waits
    assert all(0 < abs(seconds - 2.0) <= 2.0 * JITTER_RATIO for seconds in waits)


async def test_a_replica_that_hangs_delays_no_other() -> None:
    """Each has its own task."""
    board = board_of("slow", "quick")

    async def ask(asked: Replica) -> Reading:
        if asked.id == "slow":
            await anyio.sleep_forever()
        return ModelsReading(asked.id, frozenset({"m"}))

    built = Poller(board, ManualClock(), ask, no_answer, interval_s=2.0, sleep=Naps(limit=20))
    await run_until(built.run, lambda: state_of(board, "quick") is ReplicaState.READY)
    assert state_of(board, "slow") is ReplicaState.SUSPECT


async def test_a_state_is_logged_once_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Not once a probe."""
    caplog.set_level(logging.INFO, "gateway.telemetry")
    await watched(board_of("r0"), Script(GOOD, GOOD, BAD, BAD, BAD, BAD, BAD, GOOD, GOOD), looks=9)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "replica r0 (http://r0:8000) is ready: it answers"),
        ("WARNING", "replica r0 (http://r0:8000) is suspect: ConnectError refused"),
        ("WARNING", "replica r0 (http://r0:8000) is ejected: ConnectError refused"),
        ("INFO", "replica r0 (http://r0:8000) is warming: it answers"),
    ]


@pytest.mark.parametrize(
    ("signs", "words"),
    [([Sign.ERRED] * 3, "requests failed there"), ([Sign.GPU_LOST], "has lost a GPU")],
)
async def test_one_that_is_out_although_it_answers(
    caplog: pytest.LogCaptureFixture, signs: list[Sign], words: str
) -> None:
    """The log says why."""
    board = board_of("r0")
    for sign in signs:
        board.fold(HealthReading(ReplicaId("r0"), sign), 100.0)
    await watched(board, Script(GOOD), looks=3)
    assert f"replica r0 (http://r0:8000) is ejected: it answers, but {words}" in caplog.messages
    assert len(caplog.messages) == 1


async def test_a_replica_that_is_down_from_the_start_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Although it was suspect before it was asked."""
    await watched(board_of("r0"), Script(BAD), looks=1)
    assert "replica r0 (http://r0:8000) is suspect: ConnectError refused" in caplog.messages


async def test_a_surprise_is_unknown_counted_and_logged_once_a_streak(caplog: pytest.LogCaptureFixture) -> None:
    """The last good reading does not stay up when the reader itself is broken."""
    board = board_of("r0")
    oops = ZeroDivisionError("oops")
    built = await watched(board, Script(GOOD, oops, oops, oops, GOOD, oops), looks=5)
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 2
    assert built.surprises >= 4
    assert "r0 (http://r0:8000) is ejected: unforeseen ZeroDivisionError" in caplog.text
    assert repr(built) == f"<Poller of 1 replicas each 2.0 s, {built.surprises} surprises>"


async def test_replicas_join_and_leave() -> None:
    """One that joins the board is asked, one that left is not, and its last reading changes nothing."""
    board = board_of("r0")
    asked: list[str] = []

    async def ask(one: Replica) -> Reading:
        asked.append(one.id)
        board.publish(FleetSnapshot((ReplicaView(replica("r1")),)))
        return ModelsReading(one.id, frozenset({"m"}))

    naps = Naps(limit=30)
    built = Poller(board, ManualClock(), ask, no_answer, interval_s=2.0, sleep=naps)
    await run_until(built.run, naps.over.is_set)
    assert asked[:2] == ["r0", "r1"]
    assert asked.count("r0") == 1
    assert [view.id for view in board.current.replicas] == ["r1"]


async def test_a_failing_replica_that_left_is_not_asked_for_ever() -> None:
    """Its streak of failures ends with its place on the board."""
    board, naps = board_of("r0"), Naps(limit=30)
    asked: list[str] = []

    async def ask(one: Replica) -> Reading:
        asked.append(one.id)
        board.publish(FleetSnapshot(()))
        raise BAD

    await run_until(Poller(board, ManualClock(), ask, no_answer, interval_s=2.0, sleep=naps).run, naps.over.is_set)
    assert asked == ["r0"]


async def test_what_requests_saw_is_mended_by_the_next_probe() -> None:
    """A request was refused; the replica answers its probe."""
    board = board_of("r0")
    board.fold(ModelsReading(board.current.replicas[0].id, frozenset({"m"})), 1.0)
    board.fold(HealthReading(board.current.replicas[0].id, Sign.BROKEN), 2.0)
    assert state_of(board, "r0") is ReplicaState.SUSPECT
    await watched(board, Script(GOOD), looks=1)
    assert state_of(board, "r0") is ReplicaState.READY
