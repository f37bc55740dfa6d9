"""One source, asked over and over: jittered, with back-off, and one line in the log for each change."""

import logging
import random
from collections.abc import Awaitable, Callable

import anyio
from tenacity import AsyncRetrying, retry_if_result, wait_exponential

from gateway.clock import Clock
from gateway.telemetry.poller import JITTER_RATIO, NoAnswer

log = logging.getLogger("gateway.telemetry")

MAX_BACK_OFF = 8
"""The longest wait after failures, in intervals."""

QUIET_S = 30.0
"""Between two lines about one source: one that comes and goes must not fill the log."""

Ask = Callable[[], Awaitable[str | None]]
"""Asks and publishes. Gives what is wrong with the answer although it is one, or `None`. Raises `NoAnswer`."""


class Loop:
    """Never ends by itself but when `wanted` says so, and by no error of `ask`.

    `name` is how the log speaks of it. `count` is called with it for each answer that was none, or was not right.
    `stands`: what holds while there is no answer, in words.
    """

    def __init__(
        self,
        name: str,
        ask: Ask,
        clock: Clock,
        *,
        interval_s: float,
        count: Callable[[], object],
        wanted: Callable[[], bool] = lambda: True,
        stands: str = "what it would tell counts as unknown",
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._ask = ask
        self._clock = clock
        self._interval_s = interval_s
        self._count = count
        self._wanted = wanted
        self._stands = stands
        self._sleep = sleep
        self._rand = rand
        self._told: str | None = None
        self._quiet_until = 0.0

    def __repr__(self) -> str:
        return f"<Loop of {self._name} each {self._interval_s} s>"

    async def run(self) -> None:
        ask_again = AsyncRetrying(
            wait=wait_exponential(multiplier=self._interval_s, max=MAX_BACK_OFF * self._interval_s),
            retry=retry_if_result(lambda settled: not settled),
            sleep=self._pause,
        )
        while self._wanted():
            await ask_again(self._look)
            await self._pause(self._interval_s)

    async def _look(self) -> bool:
        """Ask once. Whether it need not be asked more rarely: it answered, or is not wanted any more."""
        wrong, answered = await self._answer()
        if not self._wanted():
            return True
        if wrong is not None:
            self._count()
        self._tell(wrong)
        return answered

    async def _answer(self) -> tuple[str | None, bool]:
        """What is wrong, and whether there was an answer at all."""
        try:
            return await self._ask(), True
        except NoAnswer as error:
            return str(error), False
        except Exception as error:  # the loop must outlive a reader's mistakes
            if self._told is None:
                log.exception("%s: reading it failed in an unforeseen way", self._name)
            return f"unforeseen {type(error).__name__}", False

    def _tell(self, wrong: str | None) -> None:
        """Log a change from right to wrong or back. Another fault of one that is wrong already is no change."""
        now = self._clock.monotonic()
        if (wrong is None) == (self._told is None) or now < self._quiet_until:
            return
        self._told, self._quiet_until = wrong, now + QUIET_S
        if wrong is None:
            log.info("%s: right again", self._name)
        else:
            log.warning("%s: %s; %s", self._name, wrong, self._stands)

    async def _pause(self, seconds: float) -> None:
        await self._sleep(seconds * (1 + JITTER_RATIO * (2 * self._rand() - 1)))
