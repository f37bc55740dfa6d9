"""Every replica of a fleet is restarted in turn, under load: no client notices."""

import anyio
import pytest

from gateway.config import Resilience
from gateway.config.keys import Probe, WarmUp
from gateway.core.types import HealthReading, ReplicaId, ReplicaState, Sign
from gateway.emulator.fleet import Fleet
from tests.http.test_resume import asked, assert_seamless
from tests.raw import CHAT, chat, connect
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

QUICK = Resilience(probe=Probe(interval_s=0.1), warm_up=WarmUp(prompts=2, max_s=2.0))
CLIENTS = 8


class Load:
    """Clients that ask one request after the other until they are told to leave."""

    def __init__(self, harness: Running) -> None:
        self._harness = harness
        self.answered = 0
        self.over = False

    async def stream(self, number: int) -> None:
        while not self.over:
            body = asked(CHAT, f"client {number}, {self.answered}", max_tokens=40)
            async with connect(self._harness.port) as client:
                assert_seamless(await client.ask(body), body, CHAT)
            self.answered += 1

    async def whole(self) -> None:
        """One at a time, and short: an answer that is no stream is not resumed, but asked for anew."""
        while not self.over:
            async with connect(self._harness.port) as client:
                assert (await client.ask(chat(max_tokens=2))).status == 200
            self.answered += 1


async def restart(harness: Running, fleet: Fleet, index: int, *, drains: bool) -> None:
    """As an operator does it, or as a machine that crashes does."""
    name, board, clock = ReplicaId(f"r{index}"), harness.gateway.board, harness.gateway.clock
    if drains:
        board.fold(HealthReading(name, Sign.DRAIN), clock.monotonic())
        with anyio.fail_after(20):
            while harness.gateway.books[name].in_flight:
                await anyio.sleep(0.01)
    fleet.replica(index).fault("die")
    await harness.tick(0.3)
    fleet.replica(index).recover()
    if drains:
        board.fold(HealthReading(name, Sign.RESUME), clock.monotonic())
    with anyio.fail_after(20):
        while board.current.replicas[index].state is not ReplicaState.READY:
            await anyio.sleep(0.01)


@pytest.mark.parametrize("drains", [True, False])
async def test_a_rolling_restart(drains: bool) -> None:
    """Drained first, streams end where they are; killed, they go on elsewhere. Both ways every answer is whole."""
    async with Fleet(3, speed=2) as fleet, running(config_for(fleet.urls, resilience=QUICK)) as harness:
        load = Load(harness)
        async with anyio.create_task_group() as clients:
            for number in range(CLIENTS):
                clients.start_soon(load.stream, number)
            if drains:
                clients.start_soon(load.whole)
            for index in range(3):
                await restart(harness, fleet, index, drains=drains)
            load.over = True
        records = await harness.settled(load.answered)
        assert {record["status"] for record in records} == {200}
        assert len(records) == load.answered
