"""Command line: `python -m loadtest.compare`. See docs/compare.md for how to read the table."""

import argparse
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uvloop

from loadtest.compare.peers import PEERS, Peer, gateways, version
from loadtest.compare.report import best, figures, plot, shares, table
from loadtest.compare.scenarios import CAPACITY_PER_S, ENGINE, REPLICAS, SCENARIOS, Ran, Scenario, run, steady


def options() -> argparse.Namespace:
    """Parsed arguments."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.compare", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="of each run, in wall time (60)")
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="the fleet's clock (1)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the load (1)")
    parser.add_argument("--only", default="", metavar="A,B", help="routers whose name holds one of these")
    parser.add_argument("--scenarios", default="", metavar="A,B", help=", ".join(one.name for one in SCENARIOS))
    parser.add_argument("--policies", default="", metavar="A,B", help="the gateway alone, with each of these in turn")
    parser.add_argument("--loads", default="", metavar="X,Y", help="`steady` alone, at these shares of the capacity")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw it; needs matplotlib")
    return parser.parse_args()


def say(text: str) -> None:
    """Progress goes to stderr: stdout holds the report alone."""
    print(text, file=sys.stderr, flush=True)


def chosen(given: argparse.Namespace) -> tuple[list[Peer], list[Scenario]]:
    """Routers that are wanted and installed, and scenarios that are wanted. ValueError: no such policy, no number."""
    names = [name for name in given.only.split(",") if name]
    policies = [name for name in given.policies.split(",") if name]
    scenarios = [name for name in given.scenarios.split(",") if name]
    peers = [peer for peer in PEERS if not names or any(name in peer.name for name in names)]
    if policies:
        peers = gateways(policies)
    loads = [float(load) for load in given.loads.split(",") if load]
    for peer in peers:
        if not peer.installed:
            say(f"left out: {peer.name}: there is no {peer.command[0]} on the path")
    return (
        [peer for peer in peers if peer.installed],
        [scenario for scenario in SCENARIOS if not scenarios or scenario.name in scenarios]
        if not loads
        else list(map(steady, loads)),
    )


def measure(given: argparse.Namespace, peers: list[Peer], scenarios: list[Scenario], directory: Path) -> Iterator[Ran]:
    """All runs, one after the other: nothing shares the machine with a run but what belongs to it."""
    for scenario in scenarios:
        for peer in peers:
            try:
                yield uvloop.run(
                    run(peer, scenario, directory, seconds=given.seconds, speed=given.speed, seed=given.seed)
                )
            except RuntimeError as error:
                say(f"{scenario.name}, {peer.name}: {error}")


def main() -> int:
    """Exit 0 measured, 1 a run failed, 2 nothing to run, 130 Ctrl-C."""
    given = options()
    try:
        peers, scenarios = chosen(given)
    except ValueError as error:
        say(str(error))
        return 2
    if not peers or not scenarios:
        say("nothing to run: no such router or scenario")
        return 2
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started ends
    runs: list[Ran] = []
    with tempfile.TemporaryDirectory(prefix="compare-") as directory:
        try:
            for ran in measure(given, peers, scenarios, Path(directory)):
                runs.append(ran)
                say(table([figures(ran)]).splitlines()[-1])
        except KeyboardInterrupt:
            return 130
    rows = [figures(ran) for ran in runs]
    print(f"{REPLICAS} x {ENGINE} at speed {given.speed:g}, {given.seconds:g} s a run, seed {given.seed}.")
    print(f"Load: shares of {CAPACITY_PER_S:g} requests/s: {', '.join(f'{s.name} {s.load:g}' for s in scenarios)}.\n")
    print(*(f"- {peer.name}: {version(peer)}" for peer in peers), sep="\n")
    print(f"\n{table(rows)}\n")
    print(*(f"- {line}" for line in ([*best(rows), shares(runs)] if runs else [])), sep="\n")
    if given.plot is not None and rows:
        plot(rows, given.plot)
    return 0 if len(runs) == len(peers) * len(scenarios) else 1


if __name__ == "__main__":
    sys.exit(main())
