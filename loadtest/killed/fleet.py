"""Emulated replicas, each a process of its own, so that one can be killed, stopped and started by signals."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Self

import httpx

from gateway.cli.embedded import EmbeddedFleet, embedded_fleet
from loadtest.overhead.systems import free_port


class Replica:
    """One process on a port that it keeps over restarts. Use as a context: it ends with it."""

    def __init__(self, name: str, engine: str) -> None:
        self.name = name
        self._options = ("--engine", engine, "--port", str(free_port()))
        self._life = contextlib.ExitStack()
        self._process: EmbeddedFleet

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.signal(signal.SIGCONT)
        self._life.close()

    @property
    def url(self) -> str:
        return self._process.urls[0]

    def start(self) -> None:
        """Start it, or start it anew; what is left of the one before is ended. Blocks until its port accepts."""
        self._life.close()
        self._process = self._life.enter_context(embedded_fleet(1, options=self._options))

    def signal(self, number: int) -> None:
        """None of a process that has ended is meant."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def fault(self, name: str) -> None:
        """Command a fault of the emulator's (docs/emulator.md)."""
        answer = httpx.post(f"{self._process.control_url}/emulator/faults", json={"fault": name}, trust_env=False)
        answer.raise_for_status()


@contextlib.contextmanager
def processes(count: int, engine: str) -> Iterator[list[Replica]]:
    """So many replicas, r0 and up."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Replica(f"r{number}", engine)) for number in range(count)]
