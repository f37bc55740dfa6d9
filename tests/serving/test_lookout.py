"""Who is asked whether it still listens, and whose streams go on elsewhere."""

import contextlib
import ssl
from collections.abc import AsyncIterator

import anyio
import pytest

from gateway.core.fleet import Board
from gateway.core.types import FleetSnapshot, Replica, ReplicaId, ReplicaState, ReplicaView
from gateway.errors import GatewayError
from gateway.serving.lookout import QUIET_S, Lookout, Stream
from gateway.serving.upstream import Pool
from tests.telemetry.fakes import ManualClock

pytestmark = pytest.mark.anyio

NAME = ReplicaId("r0")


class Request:
    """A stream that says what it is told to say; `lost`: why it was given up."""

    def __init__(self, replica: Replica, moved_at: float | None) -> None:
        self.replica = replica
        self.moved_at = moved_at
        self.lost: str | None = None

    def lose(self, error: GatewayError, reason: str) -> None:
        self.lost = reason


class Watched:
    """One replica, its streams, and a clock that stands still unless moved."""

    def __init__(self, url: str, state: ReplicaState = ReplicaState.READY) -> None:
        self.clock = ManualClock()
        self.replica = Replica(NAME, url)
        self.board = Board(FleetSnapshot((ReplicaView(self.replica, state),)))
        self.pool = Pool(self.clock, ssl.create_default_context())
        self.streams: set[Stream] = set()
        self.lookout = Lookout(
            self.streams, self.board, self.pool, self.clock, connect_timeout_s=2.0, drain_timeout_s=60.0
        )

    def stream(self, *, moves: bool = True) -> Request:
        request = Request(self.replica, self.clock.now if moves else None)
        self.streams.add(request)
        return request

    async def look(self, after_s: float) -> None:
        """A look, and what it asked has been answered."""
        self.clock.now += after_s
        self.lookout.look()
        with anyio.fail_after(5):
            while self.pool.dialling:
                await anyio.sleep(0.001)


@contextlib.asynccontextmanager
async def port() -> AsyncIterator[tuple[str, anyio.abc.Listener[anyio.abc.SocketStream]]]:
    """A URL where connections are accepted until the listener is closed."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}", listener


async def refusing() -> str:
    """The URL of a port that nobody listens at."""
    async with port() as (url, _):
        return url


@pytest.mark.parametrize("moves", [True, False])
async def test_a_port_that_refuses(moves: bool) -> None:
    """All that is there goes on elsewhere, also where nothing has come yet: no time-out has to be waited for."""
    watched = Watched(await refusing())
    request = watched.stream(moves=moves)
    await watched.look(0.0)
    assert request.lost is None
    await watched.look(QUIET_S + 0.1)
    assert request.lost == "refused"
    watched.pool.close()


async def test_a_long_pause_of_late_is_no_reason_to_ask_late() -> None:
    """Symptom: a replica that had stood still for 1.5 s was asked after 3 s only, when it was gone."""
    async with port() as (url, listener):
        watched = Watched(url)
        request = watched.stream()
        for after_s in (0.0, 0.75, 0.75):
            await watched.look(after_s)
        request.moved_at = watched.clock.now
        await watched.look(0.25)
        await listener.aclose()
        await watched.look(1.0)
        assert request.lost == "refused"
        watched.pool.close()


async def test_a_port_that_accepts_says_nothing() -> None:
    """Its streams are waited for, and it is asked once a second at most."""
    async with port() as (url, _):
        watched = Watched(url)
        request = watched.stream()
        for _ in range(12):
            await watched.look(0.25)
        assert request.lost is None
        assert 2 <= watched.pool.idle <= 3
        watched.pool.close()


async def test_one_that_is_out_and_silent() -> None:
    """Streams that moved go on elsewhere, though its port accepts; unless it was silent for as long of late."""
    async with port() as (url, _):
        watched = Watched(url, ReplicaState.EJECTED)
        request, waiting = watched.stream(), watched.stream(moves=False)
        await watched.look(0.0)
        await watched.look(QUIET_S - 0.1)
        request.moved_at = watched.clock.now
        await watched.look(QUIET_S + 0.1)
        assert request.lost is None
        await watched.look(0.25)
        assert (request.lost, waiting.lost) == ("silent", None)
        watched.pool.close()


async def test_another_replica_has_the_name_by_now() -> None:
    """The streams of the old one go on to their end, whatever becomes of the new one; and the other way round."""
    async with port() as (url, listener):
        watched = Watched(url, ReplicaState.EJECTED)
        old = watched.stream()
        watched.replica = Replica(NAME, await refusing())
        watched.board.publish(FleetSnapshot((ReplicaView(watched.replica, ReplicaState.EJECTED),)))
        new = watched.stream(moves=False)
        await watched.look(0.0)
        await watched.look(QUIET_S + 0.1)
        assert (old.lost, new.lost) == (None, "refused")
        watched.streams.remove(new)
        other = watched.stream()
        other.moved_at = watched.clock.now + 1.0
        await listener.aclose()
        await watched.look(1.1)
        assert (old.lost, other.lost) == ("refused", None)
        watched.pool.close()
