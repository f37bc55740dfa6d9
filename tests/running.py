"""A gateway inside a test: real sockets on free ports, the emulated fleet or a scripted peer behind it."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import anyio
import msgspec

from gateway.app import Gateway
from gateway.config import Admin, Config, ReplicaConfig, Resilience, Routing, Server
from gateway.core.types import ReplicaState


def config_for(
    urls: Sequence[str], *, policy: str = "least_load", resilience: Resilience | None = None, **server: object
) -> Config:
    """A config with these replicas, named r0, r1, …, on free ports."""
    return Config(
        server=msgspec.structs.replace(Server(port=0, drain_timeout_s=5.0), **server),
        admin=Admin(port=0),
        replicas=tuple(ReplicaConfig(url=url, name=f"r{i}") for i, url in enumerate(urls)),
        routing=Routing(policy=policy),
        resilience=resilience or Resilience(),
    )


class Running:
    """A gateway that serves, and the log lines it has written."""

    def __init__(self, config: Config) -> None:
        self._log: list[bytes] = []
        self.gateway = Gateway(config, write_log=self._log.append, signals=False)
        self.url = self.gateway.url
        self.admin_url = self.gateway.admin_url
        self.port = self.gateway.public.port

    def records(self) -> list[dict[str, object]]:
        """The request lines so far, in order."""
        self.gateway.log.flush()
        return [msgspec.json.decode(line) for line in b"".join(self._log).splitlines()]

    async def tick(self, seconds: float = 0.01) -> None:
        """Let the gateway's own clock go on, and all that waits for it happen."""
        until = self.gateway.clock.monotonic() + seconds
        while self.gateway.clock.monotonic() < until:
            await anyio.sleep(0.005)

    async def settled(self, count: int) -> list[dict[str, object]]:
        """The request lines, once there are `count` of them and the books are empty."""
        with anyio.fail_after(10):
            while len(self.records()) < count or self.gateway.books.total_in_flight():
                await anyio.sleep(0.005)
        return self.records()


@contextlib.asynccontextmanager
async def running(config: Config, *, wait_ready: bool = True) -> AsyncIterator[Running]:
    """The gateway of this config; stopped, and its streams ended, on the way out."""
    harness = Running(config)
    async with anyio.create_task_group() as group:
        await group.start(harness.gateway.run)
        try:
            if wait_ready:
                with anyio.fail_after(10):
                    board = harness.gateway.board
                    while any(view.state is not ReplicaState.READY for view in board.current.replicas):
                        await anyio.sleep(0.005)
            yield harness
        finally:
            # Also when the test has failed: a gateway that is cancelled in mid-flight leaves its sockets open.
            harness.gateway.stop()
            with anyio.CancelScope(shield=True):
                await harness.gateway.stopped.wait()
