"""Replicas that fall silent or are to be drained: their streams go on elsewhere long before the idle time-out."""

import msgspec
import pytest

from gateway.config import Resilience
from gateway.config.keys import Probe
from gateway.core.types import HealthReading, ReplicaId, Sign
from gateway.emulator.fleet import Fleet
from tests.http.test_resume import asked, assert_seamless
from tests.peers import Call, scripted
from tests.raw import CHAT, Client, Response, chat, connect
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

PATIENT = Resilience(probe=Probe(interval_s=3600.0), idle_timeout_s=600.0)


async def some_of(client: Client, chunks: int = 5) -> Response:
    response = await client.head()
    for _ in range(chunks):
        response.chunks.append(await client.chunk())
    return response


async def rest_of(client: Client, response: Response) -> Response:
    while piece := await client.chunk():
        response.chunks.append(piece)
    response.body = b"".join(response.chunks)
    return response


def chosen(harness: Running, fleet: Fleet) -> int:
    return next(i for i in range(2) if harness.gateway.books[ReplicaId(f"r{i}")].in_flight)


async def test_a_silent_replica_whose_port_refuses() -> None:
    """What a stopped vLLM mostly looks like; no time-out is near."""
    async with Fleet(2) as fleet, running(config_for(fleet.urls, resilience=PATIENT)) as harness:
        async with connect(harness.port) as client:
            body = asked(CHAT, "silent", max_tokens=100)
            client.post(body)
            response = await some_of(client)
            fleet.replica(chosen(harness, fleet)).fault("go_silent")
            assert_seamless(await rest_of(client, response), body, CHAT)
        (record,) = await harness.settled(1)
        assert (record["attempts"], record["reason"]) == (2, "resume")


async def test_a_silent_replica_that_is_out() -> None:
    """Its port accepts, and its probes have failed: frozen as a whole, or cut off from the network."""
    async with (
        Fleet(2) as fleet,
        running(config_for(fleet.urls, resilience=PATIENT)) as harness,
        connect(harness.port) as client,
    ):
        body = asked(CHAT, "frozen", max_tokens=100)
        client.post(body)
        response = await some_of(client)
        index = chosen(harness, fleet)
        fleet.replica(index).fault("freeze")
        for _ in range(3):
            reading = HealthReading(ReplicaId(f"r{index}"), Sign.UNANSWERED)
            harness.gateway.board.fold(reading, harness.gateway.clock.monotonic())
        assert_seamless(await rest_of(client, response), body, CHAT)


async def test_a_silent_replica_whose_port_accepts_is_waited_for() -> None:
    """A long prefill of others looks like that."""
    async with Fleet(2) as fleet, running(config_for(fleet.urls, resilience=PATIENT)) as harness:
        async with connect(harness.port) as client:
            body = asked(CHAT, "busy", max_tokens=100)
            client.post(body)
            response = await some_of(client)
            replica = fleet.replica(chosen(harness, fleet))
            replica.fault("freeze")
            await harness.tick(1.2)
            replica.recover()
            assert_seamless(await rest_of(client, response), body, CHAT)
        (record,) = await harness.settled(1)
        assert record["attempts"] == 1


async def test_requests_without_a_token_move_too() -> None:
    """Where the port refuses, those that wait for their first token need not wait for its time-out."""
    async with Fleet(2) as fleet, running(config_for(fleet.urls, resilience=PATIENT)) as harness:
        async with connect(harness.port) as streaming, connect(harness.port) as waiting:
            streaming.post(asked(CHAT, "silent", max_tokens=200))
            response = await some_of(streaming)
            index = chosen(harness, fleet)
            other = harness.gateway.books.open(ReplicaId(f"r{1 - index}"), 1, 1)
            another = harness.gateway.books.open(ReplicaId(f"r{1 - index}"), 1, 1)
            fleet.replica(index).fault("go_silent")
            waiting.post(chat("me, too", max_tokens=5))
            assert (await waiting.response()).status == 200
            await rest_of(streaming, response)
            other.close()
            another.close()
        await harness.settled(2)


async def test_the_time_to_drain_is_over() -> None:
    """What still runs on a replica that drains goes on elsewhere."""
    async with Fleet(2) as fleet:
        config = config_for(fleet.urls, resilience=PATIENT, drain_timeout_s=0.3)
        async with running(config) as harness, connect(harness.port) as client:
            body = asked(CHAT, "drained", max_tokens=300)
            client.post(body)
            response = await some_of(client)
            index = chosen(harness, fleet)
            harness.gateway.board.fold(HealthReading(ReplicaId(f"r{index}"), Sign.DRAIN), 0.0)
            assert_seamless(await rest_of(client, response), body, CHAT)
            (record,) = await harness.settled(1)
            assert (record["attempts"], record["reason"]) == (2, "resume")


async def test_a_sick_fleet_is_not_hammered() -> None:
    """Every replica fails every request: the retry budget ends, and requests fail at their first replica."""
    resilience = msgspec.structs.replace(PATIENT, probe=Probe(interval_s=3600.0, fall=10_000))
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=resilience)) as harness:
        peers.answer = Call.close
        async with connect(harness.port) as client:
            for _ in range(100):
                assert (await client.ask(chat())).status == 502
        records = await harness.settled(100)
        attempts = [record["attempts"] for record in records]
        assert attempts[0] == 2
        assert 30 <= attempts.count(2) <= 55
        assert attempts[-5:].count(1) >= 3
