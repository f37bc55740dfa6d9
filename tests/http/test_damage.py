"""Random damage to good requests and good answers: the gateway answers or closes, forgets nothing, and goes on.

The gateway and two scripted replicas run in a thread of their own. Hypothesis draws the damage, some at a time: what is
damaged is asked at once, so that a wait for a limit is shared.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.from_thread
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.config import Resilience
from gateway.config.keys import Probe
from tests.peers import LAST, WHOLE, Call, Peers, chunked, scripted, sized, token
from tests.raw import CHAT, chat, connect, request
from tests.running import Running, config_for, running

AT_ONCE = 100
EXAMPLES = 100 if settings().max_examples > 500 else 10
"""Of `AT_ONCE` each: a thousand wounds, and ten thousand in the deep profile."""

QUICK = Resilience(
    probe=Probe(interval_s=3600.0), connect_timeout_s=1.0, first_token_timeout_s=0.3, idle_timeout_s=0.3, max_attempts=2
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the deep profile takes minutes
    # The pollers, in their thread, draw their pauses from it while a strategy draws.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

Edit = Callable[[bytes], bytes]


@dataclass
class Bench:
    """A gateway that runs, its replicas, and what the event loop had to complain of."""

    peers: Peers
    harness: Running
    complaints: list[dict[str, Any]]
    portal: anyio.from_thread.BlockingPortal

    def ask(self, raws: list[bytes], last: bytes = b"") -> list[bytes]:
        """All bytes that come back for each, asked at once; TimeoutError if an end does not come.

        `last`: sent behind each, and again when nothing more comes, by which a connection that is idle in good order
        ends.
        """
        return self.portal.call(self._ask, raws, last)

    async def _ask(self, raws: list[bytes], last: bytes) -> list[bytes]:
        got = [b""] * len(raws)

        async def ask(index: int) -> None:
            async with connect(self.harness.port) as client:
                await client.send_all(raws[index] + last)
                if last:
                    with anyio.move_on_after(2.0):
                        got[index] = await client.rest()
                        return
                    await client.send_all(last)
                got[index] = await client.rest()

        async with anyio.create_task_group() as group:
            for index in range(len(raws)):
                group.start_soon(ask, index)
        return got

    def check(self) -> None:
        """Nothing is left of what was asked, nothing went wrong unseen, and a good request is answered."""
        self.portal.call(self.harness.settled, 0)
        assert self.complaints == []
        self.peers.answer = lambda call: call.send(sized(b"{}"))
        (answer,) = self.ask([request(CHAT, chat(), "connection: close")])
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"{}")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Peers, Running, list[dict[str, Any]]]]:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=QUICK, request_read_timeout_s=0.3)) as harness,
    ):
        yield peers, harness, complaints


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving()) as (peers, harness, complaints),
    ):
        yield Bench(peers, harness, complaints, portal)


# damage

POSITION = st.floats(0, 1, exclude_max=True)


class Shown(bytes):
    """Bytes of which hypothesis shows the beginning: a hundred messages, or one of 70 KB, are too long to show."""

    def __repr__(self) -> str:
        return super().__repr__()[:200]


SPECIAL = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"\0", b"\r\n\r\n", b":", b" ", b"0\r\n\r\n", b"\xff", b"{", b'"', b"\\u", b"-1",
     b"data: ", b"data: [DONE]\n\n", b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"HTTP/1.1 100 \r\n",
     b"connection: close\r\n", b"ffffffffffffffff", Shown(b"[" * 2000), Shown(b"x" * 70_000)]
)  # fmt: skip


def at(data: bytes, where: float) -> int:
    return int(where * len(data))


def flip(where: float, mask: int) -> Edit:
    return lambda data: (
        data[: at(data, where)] + bytes(b ^ mask for b in data[at(data, where) :][:1]) + data[at(data, where) + 1 :]
    )


def cut(start: float, size: int) -> Edit:
    return lambda data: data[: at(data, start)] + data[at(data, start) + size :]


def insert(where: float, extra: bytes) -> Edit:
    return lambda data: data[: at(data, where)] + extra + data[at(data, where) :]


def twice(start: float, size: int) -> Edit:
    return lambda data: data[: at(data, start) + size] + data[at(data, start) :]


def end(where: float) -> Edit:
    return lambda data: data[: max(at(data, where), 1)]


EDIT = st.one_of(
    st.builds(flip, POSITION, st.integers(1, 255)),
    st.builds(cut, POSITION, st.integers(1, 200)),
    st.builds(insert, POSITION, SPECIAL | st.binary(min_size=1, max_size=12)),
    st.builds(twice, POSITION, st.integers(1, 200)),
    st.builds(end, POSITION),
)
EDITS = st.lists(EDIT, min_size=1, max_size=3)


def damaged(*good: bytes) -> st.SearchStrategy[Shown]:
    def wound(data: bytes, edits: list[Edit]) -> Shown:
        for edit in edits:
            data = edit(data)
        return Shown(data or b"\r")

    return st.builds(wound, st.sampled_from(good), EDITS)


CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
REQUESTS = [
    request(CHAT, chat(stream=True), "authorization: Bearer x", "x-request-id: abc"),
    request(CHAT, chat(stream=True), "connection: close"),
    request(CHAT, chat(), "connection: close"),
    request(CHAT, chat()) + request("/v1/embeddings", {"input": "x"}),
    request("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 3}, "Connection: close"),
    CHUNKED + chunked(b'{"messages":', b'[{"role":"user","content":"x"}],"stream":true}') + LAST,
    b"GET /v1/models HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n",
]
ANSWERS = [
    WHOLE,
    sized(
        b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}',
        b"200 OK",
        b"server: uvicorn",
        b"connection: keep-alive",
    ),
    sized(b'{"error":{"message":"no","type":"x","param":null,"code":400}}', b"400 Bad Request"),
    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + WHOLE,
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    + token("a")
    + token("b", "stop"),
]

NONSENSE = b"\r\n\r\nnonsense\r\n\r\n"

DRIVEN = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # each hang costs ten seconds: no shrinking
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def some(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(kind, min_size=AT_ONCE, max_size=AT_ONCE)


@DRIVEN
@given(requests=some(damaged(*REQUESTS)))
def test_damaged_requests(bench: Bench, caplog: pytest.LogCaptureFixture, requests: list[bytes]) -> None:
    """There is an answer, or the connection ends, in time; the next request is not touched by it."""
    bench.peers.answer = lambda call: call.send(WHOLE)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        for raw, got in zip(requests, bench.ask(requests, NONSENSE), strict=True):
            assert got == b"" or got.startswith(b"HTTP/1.1 "), raw
        bench.check()
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@DRIVEN
@given(
    answers=some(st.tuples(damaged(*ANSWERS), st.sampled_from(("closes", "resets", "stays")), st.booleans())),
)
def test_damaged_answers(
    bench: Bench, caplog: pytest.LogCaptureFixture, answers: list[tuple[bytes, str, bool]]
) -> None:
    """The client gets an answer, an error or a broken transfer, in time; the next request is not touched by it."""

    def act(call: Call) -> None:
        answer, then, _ = answers[int(call.header(b"x-request-id")[0])]
        call.send(answer)
        if then != "stays":
            call.close() if then == "closes" else call.reset()

    bench.peers.answer = act
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        asked = [
            request(CHAT, chat(stream=stream), "connection: close", f"x-request-id: {index}")
            for index, (_, _, stream) in enumerate(answers)
        ]
        for answer, got in zip(answers, bench.ask(asked), strict=True):
            assert got.startswith(b"HTTP/1.1 "), answer
        bench.check()
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
