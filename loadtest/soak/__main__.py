"""Command line: `python -m loadtest.soak`. Exit 0: all is flat. 1: something grew, or nobody can tell. 130: Ctrl-C."""

import argparse
import itertools
import signal
import sys
import tempfile
import time
from pathlib import Path

import anyio
import httpx
import uvloop

from gateway.cli.embedded import EmbeddedFleet, embedded_fleet
from loadtest.compare.client import Load, Outcome
from loadtest.compare.workload import plan
from loadtest.overhead.systems import System
from loadtest.serving import serving
from loadtest.soak.verdict import FIGURES, verdict
from loadtest.soak.watch import held, told

SPEED = 24.0
"""An hour is a day of the fleet's time."""
RATE_PER_S = 1.0
"""Requests a second of that time, while there is load: some 50,000 in a day."""
BUSY_S = 15.0
QUIET_S = 6.0
"""Connections to replicas are closed after 4 s, so that what is open then stays open."""
KV_TOKENS = 60_000
"""Small, so that caches and the prefix index are full after some minutes."""
FAULTS: tuple[dict[str, object], ...] = (
    {"fault": "cut_after_bytes", "after_bytes": 2000, "times": 5},
    {"fault": "error", "times": 5},
    {"fault": "die"},
    {"fault": "close_early", "times": 5},
    {"fault": "freeze"},
    {"fault": "garbage", "times": 5},
)
CONFIG = """\
server: {host: 127.0.0.1, port: {port}, drain_timeout_s: 2}
admin: {host: 127.0.0.1, port: {admin}}
logging: {level: warning}
resilience: {first_token_timeout_s: 3, idle_timeout_s: 3}
telemetry: {gpu: {sources: [{dcgm: "%s", host: emulated}]}}
replicas:
"""


def options() -> argparse.Namespace:
    """Parsed arguments."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="how long (60)")
    return parser.parse_args()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def config(fleet: EmbeddedFleet) -> str:
    rows = [f"  - {{url: '{url}', name: r{i}, gpus: ['emulated:{i}']}}" for i, url in enumerate(fleet.urls)]
    return CONFIG % fleet.gpu_url + "\n".join(rows) + "\n"


async def round_of(number: int, gateway: System, fleet: EmbeddedFleet, http: httpx.AsyncClient) -> list[Outcome]:
    """Half of it under a fault of one replica, then a quiet half whose last clients all leave in mid-stream."""
    half_s = BUSY_S * SPEED / 2
    replica = number % len(fleet.urls)
    control = f"{fleet.control_url}/emulator/faults"
    await http.post(control, json={"replica": replica, **FAULTS[number % len(FAULTS)]})
    outcomes = await _load(gateway, 2 * number, half_s)
    await http.post(control, json={"replica": replica, "fault": "recover"})
    outcomes += await _load(gateway, 2 * number + 1, half_s, drain_s=0.0)
    return outcomes


async def _load(gateway: System, seed: int, duration_s: float, *, drain_s: float = 10.0) -> list[Outcome]:
    planned = plan("characters", rate_per_s=RATE_PER_S, duration_s=duration_s, seed=seed)
    return await Load(gateway.port, SPEED, drain_s=drain_s).run(planned, Outcome)


async def soak(minutes: float, gateway: System, admin_url: str, fleet: EmbeddedFleet) -> tuple[list[str], int]:
    """What has grown, and how many requests were asked."""
    readings: list[dict[str, float]] = []
    asked = 0
    end_s = time.monotonic() + 60.0 * minutes
    async with httpx.AsyncClient(trust_env=False, timeout=10, limits=httpx.Limits(max_keepalive_connections=0)) as http:
        for number in itertools.count():
            if time.monotonic() >= end_s:
                break
            outcomes = await round_of(number, gateway, fleet, http)
            asked += len(outcomes)
            await anyio.sleep(QUIET_S)
            readings.append({**held(gateway), **await told(http, admin_url)})
            failed = sum(one.refused or one.broken for one in outcomes)
            shown = ", ".join(f"{figure.name} {readings[-1].get(figure.name, 'unknown')}" for figure in FIGURES)
            say(f"round {number + 1}: {len(outcomes)} requests, {failed} failed; {shown}")
    return verdict(readings), asked


def main() -> int:
    minutes = options().minutes
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started ends
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as directory,
        embedded_fleet(4, speed=SPEED, options=("--kv-tokens", str(KV_TOKENS))) as fleet,
        serving(config(fleet), Path(directory)) as gateway,
    ):
        try:
            grown, asked = uvloop.run(soak(minutes, gateway.system, gateway.admin_url, fleet))
        except KeyboardInterrupt:
            return 130
    print(*grown, sep="\n", end="\n" if grown else "")
    hours = minutes * SPEED / 60
    print(f"{asked} requests, {hours:.1f} hours of the fleet's time: {'NOT FLAT' if grown else 'all flat'}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
