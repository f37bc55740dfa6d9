"""One round: a seeded storm over the fleet, while seeded clients ask it."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from random import Random

import anyio

from gateway.config import Resilience
from gateway.config.keys import Probe, WarmUp
from gateway.emulator.fleet import Fleet
from tests.chaos.asks import Ask
from tests.chaos.clients import LEFT, Visit, visits
from tests.chaos.remains import assert_accounts, assert_at_rest
from tests.chaos.storm import REPLICAS, Step, restart, storm
from tests.chaos.verdict import EXACT
from tests.running import Running, config_for, running

AT_ONCE = 16
"""Clients."""
REQUESTS_PER_STEP = 6
STEP_S = 1.0
"""The storm goes on after so long, though too few requests were begun: all clients may wait for a hung replica."""
SPEED = 25.0
"""A token of one stream in 0.3 ms, were the machine fast enough: a stream is tens of events, and the CPU the limit."""
RESILIENCE = Resilience(
    connect_timeout_s=1.0,
    first_token_timeout_s=1.0,
    idle_timeout_s=1.0,
    max_attempts=4,
    warm_up=WarmUp(prompts=2, max_s=1.0),
    # Health has its own tests. Here a replica that is struck must go on being asked.
    probe=Probe(interval_s=0.25, fall=10_000, rise=1),
)


class Chaos:
    """A gateway and a fleet that live through several rounds. What was asked, and what became of it, is added up."""

    def __init__(self, fleet: Fleet, harness: Running, seed: int) -> None:
        self.fleet, self.harness, self.seed = fleet, harness, seed
        self.asks: list[Ask] = []
        self.verdicts: dict[str, str] = {}
        self.log: list[str] = []
        self._begun = 0
        self._clients = 0

    async def round(self, number: int, requests: int) -> None:
        """A storm, and then silence: everything is right, and nothing is left."""
        rng = Random(f"{self.seed}/{number}")
        steps = storm(rng, requests // REQUESTS_PER_STEP)
        waiting = visits(rng, f"c{self.seed}-{number}", requests)
        self._begun = 0
        self.log = []
        self._clients = AT_ONCE
        async with anyio.create_task_group() as group:
            group.start_soon(self._weather, steps)
            for _ in range(AT_ONCE):
                group.start_soon(self._client, waiting)
        await assert_at_rest(self.harness, self.fleet)
        assert_accounts(self.harness, self.asks, self.verdicts)

    async def _client(self, waiting: Iterator[Visit]) -> None:
        for visit in waiting:
            self._begun += len(visit.asks)
            self.asks += visit.asks
            self.verdicts |= await visit.go(self.harness)
        self._clients -= 1

    async def _weather(self, steps: list[Step]) -> None:
        """The steps at their times; in the end all are started anew, so that nobody waits for a hung replica."""
        for number, step in enumerate(steps, 1):
            await self._reached(number * REQUESTS_PER_STEP)
            self.log.append(f"{self._begun} begun: {step}")
            step.happen(self.fleet)
        await self._reached(None)
        for replica in self.fleet.replicas:
            restart(replica)

    async def _reached(self, begun: int | None) -> None:
        """So many requests were begun (None: more than there are), all clients are through, or it takes too long."""
        with anyio.move_on_after(STEP_S):
            while self._clients and (begun is None or self._begun < begun):
                await anyio.sleep(0.002)

    @property
    def tally(self) -> Counter[str]:
        """How many answers got each verdict."""
        return Counter(self.verdicts.values())

    def share_exact(self) -> float:
        """Of the streams that can be resumed and whose clients stayed: how many were exact."""
        stayed = [self.verdicts[ask.id] for ask in self.asks if ask.resumable and self.verdicts[ask.id] != LEFT]
        return stayed.count(EXACT) / len(stayed)


@contextlib.asynccontextmanager
async def chaos(seed: int) -> AsyncIterator[Chaos]:
    """A fleet and a gateway before it; what failed is told with the seed and the storm."""
    async with (
        Fleet(REPLICAS, speed=SPEED) as fleet,
        running(config_for(fleet.urls, resilience=RESILIENCE)) as harness,
    ):
        one = Chaos(fleet, harness, seed)
        try:
            yield one
        except (AssertionError, ExceptionGroup):
            print(f"The storm of seed {seed}. Alone: CHAOS_SEEDS={seed} pytest tests/chaos", *one.log, sep="\n  ")
            raise
        print(f"seed {seed}: {dict(one.tally)}")
