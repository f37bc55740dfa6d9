"""Why there is no connection to a replica."""

import errno
import socket
import ssl

import anyio
import pytest

from gateway.clock import SystemClock
from gateway.core.types import Replica, ReplicaId
from gateway.serving.dial import dial, dial_reason
from gateway.serving.upstream import Pool


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] Connect …"), "refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 101] Network unreachable"), "connect"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "connect"),
        (OSError("unknown name"), "connect"),
        (OSError(errno.EMFILE, "Too many open files"), "exhausted"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "exhausted"),
    ],
)  # fmt: skip
def test_why_a_dial_failed(error: OSError, reason: str) -> None:
    """Nobody listens, nobody is there, or the gateway itself has run out of what it needs."""
    assert dial_reason(error) == reason


@pytest.mark.anyio
async def test_a_dial_under_way_ends_with_the_pool() -> None:
    """Symptom: a connection that came about after the gateway had stopped stayed open: nobody was left to close it."""
    pool = Pool(SystemClock(), ssl.create_default_context())
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        replica = Replica(ReplicaId("r0"), f"http://127.0.0.1:{full.getsockname()[1]}")
        for _ in range(16):  # its queue takes some; the others wait for an answer to their first packet
            pool.spawn(keep(pool, replica))
        with anyio.fail_after(5):
            while pool.dialling == 16:
                await anyio.sleep(0.001)
        assert pool.dialling > 0
        pool.close()
        with anyio.fail_after(1):
            while pool.dialling:
                await anyio.sleep(0.001)
        assert pool.idle == 0


async def keep(pool: Pool, replica: Replica) -> None:
    pool.put(await dial(pool, replica, 60.0))
