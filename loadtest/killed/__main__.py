"""Command line: `python -m loadtest.killed`. Exit 0: every answer was right. 1: one was not. 130: Ctrl-C."""

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import uvloop

from gateway.emulator.cost import EngineParams
from loadtest.compare.client import Load
from loadtest.compare.scenarios import ready
from loadtest.compare.workload import Planned, plan
from loadtest.killed.faults import FAULTS, Fault, happen
from loadtest.killed.fleet import Replica, processes
from loadtest.killed.report import Heard, head, read, records, row, seams
from loadtest.serving import Serving, serving

REPLICAS = 4
ENGINE = "8b-h100"
"""Fast enough for three of them to take all of the default rate."""
IDLE_TIMEOUT_S = 2.0
DRAIN_S = 30.0
"""How long the last answers are waited for; what is still running then is not right."""
CONFIG = """\
server: {host: 127.0.0.1, port: {port}, drain_timeout_s: 2}
admin: {host: 127.0.0.1, port: {admin}}
resilience:
  connect_timeout_s: 1
  first_token_timeout_s: 5
  idle_timeout_s: %g
  probe: {interval_s: 0.5}
  warm_up: {max_s: 2}
replicas:
"""


def options() -> argparse.Namespace:
    """Parsed arguments."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.killed", description=__doc__)
    parser.add_argument("--rate", type=float, default=40.0, metavar="R", help="streams begun a second (40)")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="of load for each fault (30)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the load (1)")
    parser.add_argument("--only", default="", metavar="A,B", help=", ".join(fault.name for fault in FAULTS))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the gateways' logs stay")
    return parser.parse_args()


def say(text: str) -> None:
    """Progress goes to stderr: stdout holds the table alone."""
    print(text, file=sys.stderr, flush=True)


def named(planned: Sequence[Planned]) -> list[Planned]:
    """The same, each with an id by which its line in the gateway's log is found."""
    return [
        replace(one, raw=one.raw.replace(b"\r\n", b"\r\nx-request-id: k%d\r\n" % number, 1))
        for number, one in enumerate(planned)
    ]


async def ask(
    fault: Fault, planned: list[Planned], seconds: float, gateway: Serving, replicas: Sequence[Replica]
) -> list[Heard]:
    """The load, and what happens meanwhile."""
    await ready(gateway.system)
    load = Load(gateway.system.port, 1.0, drain_s=DRAIN_S)
    async with anyio.create_task_group() as group:
        group.start_soon(happen, fault, replicas, gateway.admin_url, seconds)
        return await load.run(planned, Heard)


def run(fault: Fault, given: argparse.Namespace, directory: Path) -> tuple[str, bool]:
    """A fresh fleet, a fresh gateway, the load and the fault: its line, and whether every answer was right."""
    planned = named(plan("characters", rate_per_s=given.rate, duration_s=given.seconds, seed=given.seed))
    with processes(REPLICAS, ENGINE) as replicas:
        rows = [f"  - {{url: '{replica.url}', name: {replica.name}}}\n" for replica in replicas]
        with serving(CONFIG % IDLE_TIMEOUT_S + "".join(rows), directory) as gateway:
            outcomes = uvloop.run(ask(fault, planned, given.seconds, gateway, replicas))
        done = records(gateway.log.read_text())
    told = {f"k{number}": read(outcome) for number, outcome in enumerate(outcomes)}
    for why, count in Counter(one.wrong for one in told.values() if one.wrong is not None).most_common(9):
        say(f"{fault.name}: {count} x {why}")
    params = EngineParams.named(ENGINE)
    for seam in sorted(seams(told, done, 0.0), key=lambda seam: -seam.gap_s)[:5]:
        say(f"{fault.name}, {seam.request}: {1000 * seam.gap_s:.0f} ms, ended at {told[seam.request].gap_at_s:.2f} s")
    right = all(one.wrong is None for one in told.values())
    return row(fault, outcomes, told, done, params=params, idle_s=IDLE_TIMEOUT_S), right


def main() -> int:
    given = options()
    names = [name for name in given.only.split(",") if name]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started ends
    lines, right = [], True
    with tempfile.TemporaryDirectory(prefix="killed-") as scratch:
        for fault in FAULTS:
            if names and fault.name not in names:
                continue
            directory = (given.keep or Path(scratch)) / fault.name
            directory.mkdir(parents=True, exist_ok=True)
            began_s = time.monotonic()
            try:
                line, whole = run(fault, given, directory)
            except KeyboardInterrupt:
                return 130
            say(f"{line} in {time.monotonic() - began_s:.0f} s")
            lines.append(line)
            right = right and whole
    print(head(), *lines, sep="\n")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
