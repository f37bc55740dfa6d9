"""Processes on one port, here in one: real datagrams in a folder of their own."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from gateway.clock import SystemClock
from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.shared import Shared
from gateway.core.types import ReplicaId
from gateway.telemetry.siblings import Siblings

pytestmark = pytest.mark.anyio

A = ReplicaId("a")


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)


class Process:
    def __init__(self, folder: Path, number: int) -> None:
        self.books, self.index = Books(), PrefixIndex()
        self.scope = anyio.CancelScope()
        self._siblings = Siblings(folder, number, Shared(number, self.books, self.index), SystemClock())

    async def run(self) -> None:
        with self.scope:
            await self._siblings.run()


async def test_each_sees_what_the_other_sends_for_as_long_as_it_lives(tmp_path: Path) -> None:
    """Loads and prompts arrive; a third that comes later knows them too; what one had in flight ends with it."""
    one, other, third = (Process(tmp_path, number) for number in (1, 2, 3))
    async with anyio.create_task_group() as group:
        group.start_soon(one.run)
        group.start_soon(other.run)
        entry = one.books.open(A, 100, 200)
        one.index.record(A, [1, 2, 3])
        await until(lambda: other.books[A].in_flight == 1 and other.index.match([1, 2, 3]).depth(A) == 3)
        assert other.books.total_in_flight() == 0
        entry.first_token()
        await until(lambda: other.books[A].queued_tokens == 0)
        group.start_soon(third.run)
        await until(lambda: third.books[A].held_tokens == 200 and third.index.match([1, 2, 3]).depth(A) == 3)
        one.scope.cancel()
        await until(lambda: other.books[A].in_flight == third.books[A].in_flight == 0)
        other.scope.cancel()
        third.scope.cancel()
    assert os.listdir(tmp_path) == []


async def test_the_socket_of_one_that_was_killed_is_swept_away(tmp_path: Path) -> None:
    """Nobody reads it any more: the first message to it says so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(tmp_path / "7.share"))
    one = Process(tmp_path, 8)
    async with anyio.create_task_group() as group:
        group.start_soon(one.run)
        await until(lambda: not (tmp_path / "7.share").exists())
        one.scope.cancel()
