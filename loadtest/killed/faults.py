"""What happens to the replicas while they are asked."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread
import httpx

from loadtest.killed.fleet import Replica

READY_S = 20.0
"""How long a replica that was started anew may take until the gateway sends it traffic."""

Act = Callable[[Replica], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`strike` at 0.3 of the run at one replica, `heal` at 0.7. A rolling one does both to each replica in turn.

    `waits`: whether nothing ends, so that the gateway may take `idle_timeout_s` to know.
    `drains`: it is told to drain, and is struck when nothing runs there any more.
    """

    name: str
    what: str
    strike: Act
    heal: Act
    waits: bool = False
    rolling: bool = False
    drains: bool = False


def _signal(number: int) -> Act:
    return lambda replica: replica.signal(number)


def _fault(name: str) -> Act:
    return lambda replica: replica.fault(name)


FAULTS = (
    Fault("die", "SIGKILL", _signal(signal.SIGKILL), Replica.start),
    Fault("go_silent", "its port refuses, its connections stay", _fault("go_silent"), _fault("recover"), waits=True),
    Fault("hang", "its engine stands still, `/health` is well", _fault("freeze"), _fault("recover"), waits=True),
    Fault("frozen", "SIGSTOP", _signal(signal.SIGSTOP), _signal(signal.SIGCONT), waits=True),
    Fault("rolling", "each in turn: SIGTERM, and anew", _signal(signal.SIGTERM), Replica.start, rolling=True),
    Fault("drained", "the same, drained before", _signal(signal.SIGTERM), Replica.start, rolling=True, drains=True),
)


async def happen(fault: Fault, replicas: Sequence[Replica], admin_url: str, seconds: float) -> None:
    """All of it, in a run of so many seconds. TimeoutError: a replica did not come back into traffic."""
    async with httpx.AsyncClient(base_url=admin_url, trust_env=False, timeout=READY_S) as admin:
        if not fault.rolling:
            await anyio.sleep(0.3 * seconds)
            await _do(fault.strike, replicas[0])
            await anyio.sleep(0.4 * seconds)
            await _do(fault.heal, replicas[0])
            return
        await anyio.sleep(0.1 * seconds)
        for replica in replicas:
            await _restart(fault, replica, admin)


async def _restart(fault: Fault, replica: Replica, admin: httpx.AsyncClient) -> None:
    if fault.drains:
        (await admin.post(f"/admin/replicas/{replica.name}/drain")).raise_for_status()
        await _until(admin, replica, "in_flight", 0)
    await _do(fault.strike, replica)
    await _do(fault.heal, replica)
    if fault.drains:
        (await admin.post(f"/admin/replicas/{replica.name}/resume")).raise_for_status()
    await _until(admin, replica, "state", "ready")


async def _do(act: Act, replica: Replica) -> None:
    await anyio.to_thread.run_sync(partial(act, replica))


async def _until(admin: httpx.AsyncClient, replica: Replica, field: str, value: object) -> None:
    """What the gateway says of the replica is this. TimeoutError if it does not come to that."""
    with anyio.fail_after(READY_S):
        while True:
            rows = (await admin.get("/admin/replicas")).raise_for_status().json()["replicas"]
            if next(row for row in rows if row["name"] == replica.name)[field] == value:
                return
            await anyio.sleep(0.05)
