"""Command line: `python -m loadtest.overhead`. See loadtest/README.md for how to read the table."""

import argparse
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import uvloop

from loadtest.overhead import scenarios
from loadtest.overhead.client import LoadError
from loadtest.overhead.report import BASE, Series, missed, table
from loadtest.overhead.systems import Launch, Processes, System

COMMAND = "{python} -m gateway serve -c {config} --port {port}"
PROFILED = "{python} -m cProfile -o PROFILE -m gateway serve -c {config} --port {port}"
LIVE = (scenarios.small, scenarios.large, scenarios.paced, scenarios.unpaced, scenarios.rest)


def options() -> argparse.Namespace:
    """Parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.overhead", description="The gateway's cost beside nginx's."
    )
    parser.add_argument(
        "--command",
        default=COMMAND,
        help="template of the gateway's command; knows {python} {port} {config} {upstreams} {upstream_ports}",
    )
    parser.add_argument(
        "--also", nargs=2, action="append", default=[], metavar=("NAME", "TEMPLATE"), help="one more system, same run"
    )
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 51), metavar="1-50")
    parser.add_argument("--memory-rounds", type=int, default=2, choices=range(0, 11), metavar="0-10")
    parser.add_argument("--quick", action="store_true", help="shorter rounds: a look, not a claim")
    parser.add_argument("--cores", default="0,1", help="system under test, load generator with mocks")
    parser.add_argument("--log-level", help="logging.level in the gateway's config; default: the gateway's own")
    parser.add_argument(
        "--profile", metavar="FILE", help="run the default command under cProfile; its figures are void"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 when the gateway's median misses a target")
    return parser.parse_args()


def say(text: str) -> None:
    """Progress goes to stderr: stdout holds the table alone."""
    print(text, file=sys.stderr, flush=True)


def record(series: Series, readings: scenarios.Readings) -> None:
    """Append one round's readings."""
    for key, value in readings.items():
        series.setdefault(key, []).append(value)


def rounds(systems: list[System], size: scenarios.Size, count: int, results: dict[str, Series]) -> None:
    """The live figures; systems alternate within every scenario, so that they meet the same neighbours."""
    for number in range(count):
        for scenario in LIVE:
            for system in systems:
                readings = uvloop.run(scenarios.bounded(scenario, system, size))
                record(results[system.name], readings)
                shown = ", ".join(f"{key} {value:,.2f}" for key, value in readings.items())
                say(f"round {number + 1}/{count} {system.name}: {shown}")


def memory(
    processes: Processes, launches: list[Launch], mocks: list[int], size: scenarios.Size, results: dict[str, Series]
) -> None:
    """Resident size, each time of a fresh process: one that has worked keeps what it needed at its worst moment."""
    for launch in launches:
        system = processes.start(launch, mocks)
        uvloop.run(scenarios.ready(system, processes))
        readings = uvloop.run(scenarios.bounded(scenarios.idle, system, size))
        processes.stop(system)
        record(results[launch.name], readings)
        say(f"memory {launch.name}: {readings['fresh_mb']:.1f} -> {readings['idle_mb']:.1f} MB")


def measure(
    processes: Processes, launches: list[Launch], given: argparse.Namespace, results: dict[str, Series]
) -> None:
    """Fill `results`; what is there when this raises was measured."""
    size = scenarios.QUICK if given.quick else scenarios.Size()
    mocks = processes.mocks()
    systems = [processes.start(launch, mocks) for launch in launches]
    for system in systems:
        uvloop.run(scenarios.ready(system, processes))
    rounds(systems, size, given.rounds, results)
    for system in systems:
        processes.stop(system)
    for _ in range(0 if given.profile else given.memory_rounds):
        memory(processes, launches, mocks, size, results)


def prepare(cores: tuple[int, int]) -> None:
    """Pin the load generator, allow 2,000 open files, and make SIGTERM unwind like Ctrl-C."""
    os.sched_setaffinity(0, {cores[1]})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def main() -> int:
    """Exit 0 measured, 1 a measurement failed or `--check` found a target missed, 2 cannot run here, 130 Ctrl-C."""
    given = options()
    cores = tuple(int(core) for core in given.cores.split(","))
    if len(cores) != 2 or not set(cores) <= os.sched_getaffinity(0):
        say(f"--cores {given.cores}: needs two cores of {sorted(os.sched_getaffinity(0))}")
        return 2
    template = PROFILED.replace("PROFILE", str(Path(given.profile).resolve())) if given.profile else given.command
    launches = [Launch(BASE, None), Launch("gateway", template, given.log_level)]
    launches += [Launch(name, command, given.log_level) for name, command in given.also]
    results: dict[str, Series] = {launch.name: {} for launch in launches}
    code = 0
    prepare((cores[0], cores[1]))
    with tempfile.TemporaryDirectory(prefix="overhead-") as directory:
        try:
            with Processes(Path(directory), (cores[0], cores[1])) as processes:
                measure(processes, launches, given, results)
        except KeyboardInterrupt:
            code = 130
        except (LoadError, RuntimeError, FileNotFoundError) as exc:
            say(f"measurement failed: {exc}")
            code = 1
    if any(results.values()):
        print(table(results))
    if given.check and code == 0 and missed(results, "gateway"):
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
