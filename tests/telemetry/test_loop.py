"""The loop of one source: back-off, one line for a change, and no exception ends it."""

import logging

import anyio.lowlevel
import pytest

from gateway.telemetry.loop import MAX_BACK_OFF, QUIET_S, Loop
from gateway.telemetry.poller import JITTER_RATIO, NoAnswer
from tests.telemetry.fakes import ManualClock

pytestmark = pytest.mark.anyio
GOOD, POOR, BAD = None, "half of it is missing", NoAnswer("status 500")


class Source:
    """Answers as it is told, then is not wanted any more; the clock moves on by each nap."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self._answers = list(answers)
        self.clock = ManualClock()
        self.naps: list[float] = []
        self.wrong = 0

    async def ask(self) -> str | None:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.clock.now += seconds
        await anyio.lowlevel.checkpoint()

    def count(self) -> None:
        self.wrong += 1

    async def run(self, rand: float = 0.5, interval_s: float = 1.0) -> "Source":
        loop = Loop(
            "source s",
            self.ask,
            self.clock,
            interval_s=interval_s,
            count=self.count,
            wanted=lambda: bool(self._answers),
            sleep=self.nap,
            rand=lambda: rand,
        )
        assert repr(loop) == f"<Loop of source s each {interval_s} s>"
        await loop.run()
        return self


async def test_failures_are_asked_again_ever_more_rarely() -> None:
    """Up to a bound; an answer that is merely not right is none of them."""
    source = await Source(*[BAD] * 6, GOOD, POOR, BAD, GOOD, GOOD).run()
    assert source.naps[:9] == [1, 2, 4, MAX_BACK_OFF, MAX_BACK_OFF, MAX_BACK_OFF, 1, 1, 1]
    assert source.wrong == 8


@pytest.mark.parametrize("rand", [0.0, 0.999])
async def test_waits_differ_by_jitter(rand: float) -> None:
    """Sources do not fall into step."""
    source = await Source(GOOD, GOOD, GOOD).run(rand)
    assert all(0 < abs(seconds - 1.0) <= JITTER_RATIO for seconds in source.naps)


async def test_a_fault_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not at each look, nor for another fault of one that is wrong already; the return is logged, too."""
    caplog.set_level(logging.INFO, logger="gateway.telemetry")
    await Source(GOOD, BAD, POOR, *[BAD] * 9, GOOD, GOOD).run()
    assert [record.message for record in caplog.records] == [
        "source s: status 500; what it would tell counts as unknown",
        "source s: right again",
    ]


async def test_one_that_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A line at most each so many seconds, and the last of them is true."""
    caplog.set_level(logging.INFO, logger="gateway.telemetry")
    source = await Source(*[GOOD, POOR] * 40, *[GOOD] * 40).run()
    assert len(caplog.records) <= 2 + sum(source.naps) / QUIET_S
    assert caplog.records[-1].message == "source s: right again"


async def test_a_mistake_of_the_reader_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its place, once, and counted as a failure."""
    source = await Source(GOOD, KeyError("x"), KeyError("x"), GOOD, GOOD).run()
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    assert source.wrong == 2
