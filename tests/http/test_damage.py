"""Damaged requests and damaged answers against one running gateway: it answers or closes, forgets nothing, goes on.

The gateway and a scripted replica run in a thread of their own; the examples are driven from the test's thread.
"""

import asyncio
import contextlib
import logging
import socket
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
from tests.raw import CHAT, chat, request
from tests.running import Running, config_for, running

PATIENCE_S = 10.0
EXAMPLES = 1000 if settings().max_examples > 500 else 100
pytestmark = pytest.mark.slow

Edit = Callable[[bytes], bytes]


@dataclass
class Bench:
    """A gateway that runs, its replica, and what the event loop had to complain of."""

    port: int
    peers: Peers
    harness: Running
    complaints: list[dict[str, Any]]
    portal: anyio.from_thread.BlockingPortal

    def ask(self, raw: bytes, last: bytes = b"") -> bytes:
        """All bytes that come back for these; TimeoutError if the end does not come. `last`: sent again when nothing
        more comes, by which a connection that is idle in good order ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2.0 if last else PATIENCE_S) as client:
            client.sendall(raw + last)
            try:
                return read_to_the_end(client)
            except TimeoutError:
                if not last:
                    raise
            client.settimeout(PATIENCE_S)
            client.sendall(last)
            return read_to_the_end(client)

    def check(self) -> None:
        """Nothing is left of what was asked, nothing went wrong unseen, and a good request is answered."""
        self.portal.call(self.harness.settled, 0)
        assert self.complaints == []
        self.peers.answer = lambda call: call.send(sized(b"{}"))
        answer = self.ask(request(CHAT, chat(), "connection: close"))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"{}")


def read_to_the_end(client: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(1 << 16):
            got += piece
    return got


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Peers, Running, list[dict[str, Any]]]]:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    resilience = Resilience(probe=Probe(interval_s=3600.0), first_token_timeout_s=0.3, idle_timeout_s=0.3)
    async with scripted() as peers:
        config = config_for(peers.urls, resilience=resilience, request_read_timeout_s=0.3)
        async with running(config) as harness:
            yield peers, harness, complaints


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving()) as (peers, harness, complaints),
    ):
        yield Bench(harness.port, peers, harness, complaints, portal)


# mutations

POSITION = st.floats(0, 1, exclude_max=True)
SPECIAL = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"\0", b"\r\n\r\n", b":", b" ", b"0\r\n\r\n", b"\xff", b"{", b'"', b"[" * 2000, b"\\u",
     b"data: ", b"data: [DONE]\n\n", b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"HTTP/1.1 100 \r\n",
     b"connection: close\r\n", b"ffffffffffffffff", b"-1", b"x" * 70_000]
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


EDIT = st.one_of(
    st.builds(flip, POSITION, st.integers(1, 255)),
    st.builds(cut, POSITION, st.integers(1, 200)),
    st.builds(insert, POSITION, SPECIAL | st.binary(min_size=1, max_size=8)),
    st.builds(twice, POSITION, st.integers(1, 200)),
)
EDITS = st.lists(EDIT, min_size=1, max_size=3)


def edited(data: bytes, edits: list[Edit]) -> bytes:
    for edit in edits:
        data = edit(data)
    return data


CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
REQUESTS = [
    request(CHAT, chat(stream=True), "authorization: Bearer x", "x-request-id: abc"),
    request(CHAT, chat()) + request("/v1/embeddings", {"input": "x"}),
    request("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 3}, "Connection: close"),
    CHUNKED + chunked(b'{"messages":', b'[{"role":"user","content":"x"}],"stream":true}') + LAST,
    b"GET /v1/models HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n",
]
ANSWERS = [
    WHOLE,
    sized(b'{"choices":[],"usage":{"prompt_tokens":3}}', b"200 OK", b"server: uvicorn", b"connection: keep-alive"),
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
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@DRIVEN
@given(raw=st.sampled_from(REQUESTS), edits=EDITS)
def test_damaged_requests(bench: Bench, caplog: pytest.LogCaptureFixture, raw: bytes, edits: list[Edit]) -> None:
    """There is an answer, or the connection ends, in time; the next request is not touched by it."""
    bench.peers.answer = lambda call: call.send(WHOLE)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        got = bench.ask(edited(raw, edits), NONSENSE)
        assert got == b"" or got.startswith(b"HTTP/1.1 ")
        bench.check()
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@DRIVEN
@given(answer=st.sampled_from(ANSWERS), edits=EDITS, then=st.sampled_from(("closes", "resets", "stays")))
def test_damaged_answers(
    bench: Bench, caplog: pytest.LogCaptureFixture, answer: bytes, edits: list[Edit], then: str
) -> None:
    """The client gets an answer, an error or a broken transfer, in time; the next request is not touched by it."""
    stream = then == "stays"  # a whole answer may take ten minutes

    def act(call: Call) -> None:
        call.send(edited(answer, edits))
        if then != "stays":
            call.close() if then == "closes" else call.reset()

    bench.peers.answer = act
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        got = bench.ask(request(CHAT, chat(stream=stream), "connection: close"))
        assert got.startswith(b"HTTP/1.1 ")
        bench.check()
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
