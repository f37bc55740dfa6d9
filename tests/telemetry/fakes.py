"""Replicas behind httpx without a socket, and a sleep that takes no time."""

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import httpx
import respx

from gateway.core.fleet import Board
from gateway.core.types import FleetSnapshot, Replica, ReplicaId, ReplicaState, ReplicaView


class ManualClock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Naps:
    """A sleep that returns at once, and tells how long it was asked for; the one after `limit` never ends."""

    def __init__(self, limit: int) -> None:
        self.taken: list[float] = []
        self._limit = limit
        self.over = anyio.Event()

    async def __call__(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        if len(self.taken) == self._limit:
            self.over.set()
            await anyio.sleep_forever()
        self.taken.append(seconds)


def board_of(*names: str) -> Board:
    return Board(FleetSnapshot(tuple(ReplicaView(replica(name)) for name in names)))


def replica(name: str, **more: str) -> Replica:
    return Replica(ReplicaId(name), f"http://{name}:8000", **more)


def state_of(board: Board, name: str) -> ReplicaState:
    return next(view.state for view in board.current.replicas if view.id == name)


def client_of(router: respx.Router) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(router.async_handler))


async def until(condition: Callable[[], bool]) -> None:
    """Let the others run until it holds."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def run_until(run: Callable[[], Awaitable[None]], condition: Callable[[], bool]) -> None:
    """Run it until the condition holds, then cancel it."""
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(condition)
        group.cancel_scope.cancel()
