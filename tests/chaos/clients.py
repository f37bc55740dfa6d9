"""Clients and their manners. Each says of every request that it sent what became of it; none waits for ever."""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from random import Random

import anyio

from gateway.serving.front import Front
from tests.chaos.asks import Ask, draw, long
from tests.chaos.verdict import judge, judge_part
from tests.raw import Client, Response, connect
from tests.running import Running

PATIENCE_S = 40.0
"""Beyond it a request hangs: far more than all time-outs of its attempts and the longest time a replica is sick."""

LEFT = "left"
"""The client did not wait for the end."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What one client does: its manners, and its requests in their order. `nerve`: how much it takes, 0 to 1."""

    manners: str
    asks: tuple[Ask, ...]
    nerve: float

    async def go(self, harness: Running) -> dict[str, str]:
        """Verdicts by request id. AssertionError names the request whose answer is wrong, or does not come."""
        told: dict[str, str] = {}
        try:
            with anyio.fail_after(PATIENCE_S):
                await MANNERS[self.manners](self, harness, told)
        except (AssertionError, TimeoutError, EOFError, OSError) as error:
            open_ones = [f"{ask.id} ({ask.kind})" for ask in self.asks if ask.id not in told]
            what = f"{type(error).__name__}: {error}"
            raise AssertionError(f"a client that {self.manners}: {open_ones[:1]} failed, {what}") from error
        return told


async def reads(visit: Visit, harness: Running, told: dict[str, str]) -> None:
    """One request after the other on one connection, as long as that lasts."""
    asks = list(visit.asks)
    while asks:
        async with connect(harness.port) as client:
            usable = True
            while asks and usable:
                client.send(asks[0].raw)
                ask = asks.pop(0)
                response = await client.response()
                told[ask.id] = judge(ask, response)
                usable = goes_on(response)


async def pipelines(visit: Visit, harness: Running, told: dict[str, str]) -> None:
    """All at once; those behind an answer that ended the connection have not been begun, and are sent again."""
    asks = list(visit.asks)
    while asks:
        async with connect(harness.port) as client:
            client.send(b"".join(ask.raw for ask in asks))
            usable = True
            while asks and usable:
                response = await client.response()
                ask = asks.pop(0)
                told[ask.id] = judge(ask, response)
                usable = goes_on(response)


def goes_on(response: Response) -> bool:
    """Whether the connection may carry another request."""
    return response.complete and response.header("connection") != "close"


async def leaves(visit: Visit, harness: Running, told: dict[str, str]) -> None:
    """In mid-answer, by a close or a reset; or before anything has come."""
    (ask,) = visit.asks
    async with connect(harness.port) as client:
        client.send(ask.raw)
        told[ask.id] = LEFT
        if visit.nerve < 0.2:
            return
        got = await beginning(client, int(60 * visit.nerve))
        if ask.stream and got:
            judge_part(ask, got)
        if visit.nerve < 0.6:
            client.reset()


async def beginning(client: Client, most: int) -> bytes:
    """The first chunks of an answer that has any."""
    head, got = await client.head(), b""
    if head.status != 200 or head.header("transfer-encoding") != "chunked":
        return got
    with contextlib.suppress(EOFError):
        for _ in range(most):
            got += (piece := await client.chunk())
            if not piece:
                break
    return got


async def times_out(visit: Visit, harness: Running, told: dict[str, str]) -> None:
    """Waits for its answer, and leaves when that takes too long."""
    (ask,) = visit.asks
    async with connect(harness.port) as client:
        client.send(ask.raw)
        told[ask.id] = LEFT
        with anyio.move_on_after(0.05 + 0.5 * visit.nerve):
            told[ask.id] = judge(ask, await client.response())


async def reads_slowly(visit: Visit, harness: Running, told: dict[str, str]) -> None:
    """A little now and then, with next to no room on the way: the replica feels it."""
    (ask,) = visit.asks
    async with connect(harness.port, receive_bytes=4096) as client:
        await narrow(client, harness)
        client.send(ask.raw)
        response = await client.head()
        try:
            while response.status == 200 and (piece := await client.chunk()):
                response.chunks.append(piece)
                if len(response.chunks) % 16 == 0:
                    await anyio.sleep(0.002)
        except EOFError:
            response.complete = False
        if response.status != 200:
            response.chunks.append(await client.exactly(int(response.header("content-length") or 0)))
        response.body = b"".join(response.chunks)
        told[ask.id] = judge(ask, response)


async def never_reads(visit: Visit, harness: Running, told: dict[str, str]) -> None:
    """Until the gateway has had enough of it, or the answer has ended."""
    (ask,) = visit.asks
    async with connect(harness.port, receive_bytes=4096) as client:
        await narrow(client, harness)
        client.send(ask.raw)
        told[ask.id] = LEFT
        while not any(record["request_id"] == ask.id for record in harness.records()):
            await anyio.sleep(0.1)


async def narrow(client: Client, harness: Running) -> None:
    """Leave next to no room in the kernel for what this client does not read."""
    while True:
        for front in harness.gateway.public.server_state.connections:
            assert isinstance(front, Front)
            if front.transport.get_extra_info("peername") == client.address:
                sock = front.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                return
        await anyio.sleep(0.001)


MANNERS: dict[str, Callable[[Visit, Running, dict[str, str]], Awaitable[None]]] = {
    "reads": reads,
    "pipelines": pipelines,
    "leaves": leaves,
    "times out": times_out,
    "reads slowly": reads_slowly,
    "never reads": never_reads,
}
ODDS = {"reads": 60, "pipelines": 10, "leaves": 14, "times out": 8, "reads slowly": 2, "never reads": 1}


def visits(rng: Random, prefix: str, requests: int) -> Iterator[Visit]:
    """Clients with so many requests between them, at least."""
    number = 0
    while number < requests:
        manners = rng.choices(list(ODDS), list(ODDS.values()))[0]
        count = rng.randint(2, 4) if manners in ("reads", "pipelines") else 1
        make = long if manners in ("reads slowly", "never reads") else draw
        asks = tuple([make(rng, f"{prefix}-{number + at}") for at in range(count)])
        number += count
        yield Visit(manners, asks, rng.random())
