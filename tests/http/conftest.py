"""The event loop that `gateway serve` runs on, and a gateway with small limits for what clients send by mistake."""

from collections.abc import AsyncIterator

import pytest

from tests.peers import Peers, scripted, sized
from tests.raw import chat, connect
from tests.running import Running, config_for, running


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """uvloop where there is one: its transports differ from asyncio's where it hurts."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio", {}
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def bench() -> AsyncIterator[tuple[Peers, Running]]:
    """One gateway with small limits for all tests of a file."""
    async with scripted() as peers:
        config = config_for(peers.urls, max_body_bytes=1 << 20, request_read_timeout_s=0.3)
        async with running(config) as harness:
            yield peers, harness


@pytest.fixture
def peers(bench: tuple[Peers, Running]) -> Peers:
    """The replica, as if it had never been asked."""
    peers, _ = bench
    peers.calls.clear()
    peers.answer = lambda call: call.send(sized(b"{}"))
    return peers


@pytest.fixture
async def harness(bench: tuple[Peers, Running], peers: Peers) -> AsyncIterator[Running]:
    """The gateway, which must answer a good request after whatever the test has done to it."""
    _, harness = bench
    yield harness
    peers.answer = lambda call: call.send(sized(b"{}"))
    async with connect(harness.port) as client:
        assert (await client.ask(chat())).body == b"{}"
    assert harness.gateway.books.total_in_flight() == 0
