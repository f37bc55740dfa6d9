"""Random damage to good requests and good answers: nothing hangs, nothing leaks, nothing goes unhandled."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator

import anyio
import pytest

from gateway.config import Config, Resilience
from tests.peers import WHOLE, Peers, scripted, sized
from tests.raw import CHAT, chat, connect, request
from tests.running import Running, config_for, running

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROUNDS = 1000
AT_ONCE = 125
PATIENCE_S = 15.0
QUICK = Resilience(connect_timeout_s=1.0, first_token_timeout_s=0.3, idle_timeout_s=0.3, max_attempts=2)

GOOD = [request(CHAT, chat(stream=stream), "connection: close") for stream in (False, True)]
ANSWERS = [sized(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}'), WHOLE]


def mutated(good: bytes, rng: random.Random) -> bytes:
    """One to three small wounds: a byte changed, a piece cut out, doubled or put in, or the end cut off."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) or 1)
        length = rng.randint(1, 12)
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at:at] = rng.randbytes(length)
            case _:
                del data[max(at, 1) :]
    return bytes(data) or b"\r"


def config(peers: Peers) -> Config:
    return config_for(peers.urls, resilience=QUICK, request_read_timeout_s=0.3)


@contextlib.asynccontextmanager
async def quiet(caplog: pytest.LogCaptureFixture) -> AsyncIterator[tuple[Running, Peers]]:
    """A gateway with short limits before two peers; in the end nothing may be held or have gone unhandled."""
    unhandled: list[object] = []
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=QUICK, request_read_timeout_s=0.3)) as it,
    ):
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
        yield it, peers
        with anyio.fail_after(PATIENCE_S):
            while it.gateway.books.total_in_flight():
                await anyio.sleep(0.01)
        assert unhandled == []
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def first_bytes(harness: Running, raw: bytes) -> bytes:
    """What comes back until the connection's end, or until it is open for another request."""
    async with connect(harness.port) as client:
        await client.send_all(raw)
        try:
            await client.until(b"HTTP/1.1 ")
        except EOFError:
            return b""
        return b"HTTP/1.1 " + await client.exactly(3)


async def a_thousand(harness: Running, raws: list[bytes]) -> list[bytes]:
    """What each is answered with, some asked at once."""
    answers: list[bytes] = []

    async def ask(raw: bytes) -> None:
        answers.append(await first_bytes(harness, raw))

    for start in range(0, len(raws), AT_ONCE):
        async with anyio.create_task_group() as group:
            for raw in raws[start : start + AT_ONCE]:
                group.start_soon(ask, raw)
    return answers


async def test_damaged_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a client sends is answered within the limits, and the next good request is served."""
    rng = random.Random(20261124)
    async with quiet(caplog) as (harness, peers):
        peers.answer = lambda call: call.send(ANSWERS[b'"stream": true' in call.body])
        answers = await a_thousand(harness, [mutated(rng.choice(GOOD), rng) for _ in range(ROUNDS)])
        assert len(answers) == ROUNDS
        assert all(answer.startswith(b"HTTP/1.1 ") for answer in answers)
        assert await first_bytes(harness, GOOD[0]) == b"HTTP/1.1 200"


async def test_damaged_answers(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a replica answers, the client gets HTTP within the limits, and the next good answer passes."""
    rng = random.Random(20261125)
    async with quiet(caplog) as (harness, peers):
        peers.answer = lambda call: call.send(mutated(ANSWERS[b'"stream": true' in call.body], rng))
        answers = await a_thousand(harness, [rng.choice(GOOD) for _ in range(ROUNDS)])
        assert all(answer.startswith(b"HTTP/1.1 ") for answer in answers)
        peers.answer = lambda call: call.send(ANSWERS[0])
        assert await first_bytes(harness, GOOD[0]) == b"HTTP/1.1 200"
