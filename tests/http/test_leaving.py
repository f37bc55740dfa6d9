"""Clients that leave: the replica is told at once, everything is given back, and one record says so."""

from collections.abc import Callable

import anyio
import pytest

from gateway.config import Resilience
from gateway.emulator.fleet import Fleet
from tests.peers import SSE, WHOLE, chunked, deaf, scripted, sized, token
from tests.raw import CHAT, Client, chat, connect
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

LEAVE: dict[str, Callable[[Client], None]] = {
    "closes": Client.close,
    "resets": Client.reset,
    "closes its sending half": Client.half_close,
}


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.001)


async def assert_left(harness: Running, phase: str) -> None:
    """One record, of a client that has left in this phase; the books are empty."""
    (record,) = await harness.settled(1)
    assert (record["status"], record["disconnected"]) == (499, phase)
    load = harness.gateway.books["r0"]  # type: ignore[index]
    assert (load.in_flight, load.queued_tokens, load.held_tokens) == (0, 0, 0)


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("stream", [True, False])
async def test_before_the_first_token(leave: str, stream: bool) -> None:
    """The replica stops working on it, whether a stream or a whole answer was asked for."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as harness, connect(harness.port) as client:
        replica = fleet.replica(0)
        replica.fault("freeze")
        client.post(chat(stream=stream, max_tokens=10000, ignore_eos=True))
        await until(lambda: replica.running == 1)
        LEAVE[leave](client)
        await until(lambda: replica.running == 0)
        assert replica.aborted == 1
        await assert_left(harness, "before_first_token")


@pytest.mark.parametrize("leave", LEAVE)
async def test_in_mid_stream(leave: str) -> None:
    """The replica stops working on it."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as harness, connect(harness.port) as client:
        client.post(chat(stream=True, max_tokens=20000, ignore_eos=True))
        await client.until(b'"content":" ')
        LEAVE[leave](client)
        await until(lambda: fleet.replica(0).running == 0)
        assert fleet.replica(0).aborted == 1
        await assert_left(harness, "streaming")


async def test_after_the_role_alone() -> None:
    """A role chunk is no output: the client left before its first token."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat(stream=True))
        call = await peers.call()
        role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
        call.send(SSE + chunked(role))
        await client.until(role)
        client.close()
        await call.left()
        await assert_left(harness, "before_first_token")


async def test_in_the_middle_of_a_whole_answer() -> None:
    """It had begun, so the client was being answered."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat())
        call = await peers.call()
        call.send(sized(b"0123456789")[:-5])
        await client.until(b"01234")
        client.close()
        await call.left()
        await assert_left(harness, "streaming")


async def test_at_the_dial() -> None:
    """A client that leaves while the gateway still connects: it is recorded at once, and nothing comes of the dial."""
    with deaf() as url:
        resilience = Resilience(connect_timeout_s=0.5)
        async with running(config_for([url], resilience=resilience), wait_ready=False) as harness:
            async with connect(harness.port) as client:
                client.post({"messages": []})
                await until(lambda: harness.gateway.books["r0"].in_flight == 1)  # type: ignore[index]
            await assert_left(harness, "before_first_token")


async def test_before_the_dial_has_an_answer() -> None:
    """A client that is gone as soon as it has asked has left once, wherever its request is by then."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        for count in range(1, 30):
            async with connect(harness.port) as client:
                client.post(chat())
            assert (await harness.settled(count))[-1]["disconnected"] == "before_first_token"
        peers.answer = lambda call: call.send(sized(b"{}"))
        async with connect(harness.port) as client:
            assert (await client.ask(chat())).body == b"{}"


async def test_in_mid_upload() -> None:
    """Nothing has reached a replica, and nothing is recorded of half a request."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        async with connect(harness.port) as client:
            client.send(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{" % CHAT.encode())
            await until(lambda: any(front._started_at for front in harness.gateway.public.server_state.connections))
        await until(lambda: not harness.gateway.public.server_state.connections)
        assert (harness.records(), peers.calls) == ([], [])


async def test_with_another_request_behind() -> None:
    """A client that has pipelined a second request and then leaves: neither of them goes on."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat(stream=True))
        client.post(chat(stream=True))
        call = await peers.call()
        call.send(SSE + chunked(token("a")))
        await client.until(token("a"))
        client.close()
        await call.left()
        await assert_left(harness, "streaming")
        assert len(peers.calls) == 1


async def test_between_two_requests() -> None:
    """A client that closes an idle connection has left nothing: one good record, and none of a disconnect."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        peers.answer = lambda call: call.send(WHOLE)
        async with connect(harness.port) as client:
            assert (await client.ask(chat(stream=True))).complete
        await until(lambda: not harness.gateway.public.server_state.connections)
        (record,) = harness.records()
        assert (record["status"], record["disconnected"]) == (200, None)


async def test_many_at_once() -> None:
    """A hundred clients leave at any moment of theirs: the replica runs nothing, the books are empty, each has ended
    once."""
    async with Fleet(2) as fleet, running(config_for(fleet.urls)) as harness:

        async def one(number: int) -> None:
            async with connect(harness.port) as client:
                client.post(chat(f"{number}", stream=number % 3 > 0, max_tokens=10000, ignore_eos=True))
                if number % 3 == 1:
                    await client.until(b'"content":" ')

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)
        await until(lambda: not any(replica.running for replica in fleet.replicas))
        await until(lambda: not harness.gateway.public.server_state.connections)
        records = await harness.settled(34)
        assert all(record["status"] == 499 for record in records)
        assert len({record["request_id"] for record in records}) == len(records)
