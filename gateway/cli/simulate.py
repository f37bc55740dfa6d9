"""`gateway simulate`: which policy, and how many replicas? A trace against a simulated fleet, in virtual time."""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.cli import simulate_day
from gateway.cli.progress import Progress
from gateway.cli.table import table
from gateway.core.policies import POLICIES
from gateway.emulator.engine import EngineParams
from gateway.lab import steering
from gateway.lab.capacity import capacity
from gateway.lab.day import PEAK
from gateway.lab.entrants import ENTRANTS, PEERS, Entrant
from gateway.lab.figures import Slo, figures
from gateway.lab.report import HEADS, Row, can_plot, cells, needed, plain, plot, relative
from gateway.lab.setup import FOREVER, HARDWARE_GPUS, Kill, Setup, Throttle, pairs, span
from gateway.lab.simulate import simulate
from gateway.lab.sources import Source, source
from gateway.lab.traces import GENERATORS

DURATION_S = 120.0
"""How much of a trace is made."""
WARM_UP = 0.2
"""Share of a made trace that is not counted: caches are empty when it begins."""
LOAD = 0.7

_T = TypeVar("_T")

_EPILOG = f"""traces: {", ".join(GENERATORS)}; a file in Mooncake's format; this gateway's access log.
policies: {", ".join(POLICIES)}; for comparison, as we read them:
{", ".join(PEERS)}."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that was asked for. One of `rates` and `loads` is empty. `duration_s`: `FOREVER` is all of a recording."""

    source: Source
    policies: list[Entrant]
    fleets: list[tuple[str, Setup]]
    rates: list[float]
    loads: list[float]
    duration_s: float
    window: tuple[float, float]
    slo: Slo
    seed: int


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("simulate", help="compare policies on a trace", description=__doc__, epilog=_EPILOG)
    parser.add_argument("trace", metavar="TRACE", help="a generator's name or a file, see below")
    parser.add_argument("--policy", default="prefix", metavar="A,B", help="`all` and `peers` are many (default prefix)")
    parser.add_argument("--replicas", default="4", metavar="N,M", help="fleet sizes (default 4)")
    parser.add_argument(
        "--hardware", default="8b-h100", metavar="A,B", help=f"{', '.join(HARDWARE_GPUS)} (default 8b-h100)"
    )
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--load", metavar="X,Y", help=f"shares of the fleet's capacity (made traces: default {LOAD})")
    rate.add_argument("--rate", metavar="X,Y", help="requests a second (recorded traces: default as recorded)")
    parser.add_argument("--duration", type=float, metavar="S", help="of the trace (default 120, recorded: all of it)")
    parser.add_argument(
        "--day",
        type=float,
        metavar="S",
        help="a day of so many seconds, hour by hour: night and peak, a throttle, a death",
    )
    parser.add_argument("--window", metavar="FROM-TO", help="count what arrives then (default: all but the warm-up)")
    parser.add_argument("--slo", default="ttft=0.5,tpot=0.05", metavar="ttft=S,tpot=S", help="what goodput is")
    parser.add_argument("--population", type=int, metavar="N", help="how many characters there are (default 100)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of a made trace (default 1)")
    _add_fleet_options(parser)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="what to print (default table)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw it; needs the extra `lab`")
    parser.add_argument(
        "--steering", type=Path, metavar="FILE.png", help="draw p99 TTFT over time, told of a --throttle and not"
    )
    parser.set_defaults(run=run)


def _add_fleet_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("fleet", "replicas are numbered from 0; a list shorter than the fleet repeats")
    group.add_argument("--speeds", metavar="X,Y", help="of each replica, 1 is nominal")
    group.add_argument("--kv", metavar="T,U", help="KV cache of each replica, in tokens")
    group.add_argument(
        "--throttle", action="append", default=[], metavar="R@FROM-TO:clock=X,memory=Y", help="slow one down, 1 is none"
    )
    group.add_argument("--kill", action="append", default=[], metavar="R@FROM-TO", help="it is dead, then back, empty")
    group.add_argument("--telemetry", action="store_true", help="the gateway reads GPU clocks")
    group.add_argument("--learned", action="store_true", help="it learns from its own streams how slow replicas are")
    group.add_argument("--noise", type=float, default=0.0, metavar="S", help="sigma on the times it learns from, 0.1")
    group.add_argument("--gateways", type=int, default=1, metavar="N", help="in front of the fleet (default 1)")
    group.add_argument("--delay", default="0.25", metavar="S", help="until they hear of each other, or `never`")
    group.add_argument("--no-replies", action="store_true", help="the index learns a reply with the next turn only")


def run(args: argparse.Namespace) -> int:
    """0: the figures are on stdout. 2: something that was asked for cannot be; stderr says what is expected."""
    try:
        plan = _plan(args)
        if (args.plot or args.steering) and not can_plot():
            raise ValueError("--plot and --steering need matplotlib: pip install 'vllm-gateway[lab]'")
        if args.day is not None:
            return _day(plan, args)
        rows = list(_rows(plan, Progress(sys.stderr)))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    answers = _answers(plan, rows)
    print(_json(plan, rows, answers) if args.format == "json" else _text(plan, rows, answers))
    try:
        if args.plot is not None:
            plot(rows, f"{plan.source.name}, seed {plan.seed}", args.plot)
        if args.steering is not None:
            _steer(plan, rows[0], args.steering)
    except (OSError, ValueError) as error:
        print(f"cannot draw: {error}", file=sys.stderr)
        return 2
    return 0


def _day(plan: _Plan, args: argparse.Namespace) -> int:
    """`--load` or `--rate` is that of its peak. ValueError: what was asked for is more than a day can show."""
    if plan.source.name != "characters" or args.population or args.plot or args.steering:
        raise ValueError("--day: expected the trace `characters` with its 100, and no plot")
    if not 0 < args.day < FOREVER or len(plan.policies) * len(plan.fleets) * len(plan.rates or plan.loads) != 1:
        raise ValueError("--day: expected seconds above 0, one policy, one fleet, and one load or rate")
    setup = plan.fleets[0][1]
    peak = plan.rates[0] if plan.rates else plan.loads[0] * capacity(plan.source, setup, plan.seed)
    json = args.format == "json"
    return simulate_day.run(plan.policies[0], setup, peak, args.day, seed=plan.seed, slo=plan.slo, json=json)


def _steer(plan: _Plan, row: Row, file: Path) -> None:
    """Of the first fleet, rate and policy. OSError, ValueError."""
    setup, entrant = plan.fleets[0][1], plan.policies[0]

    def begun(name: str) -> None:
        print(f"over time: {name}", file=sys.stderr)

    found = steering.lines(plan.source, row.rate_per_s, plan.duration_s, plan.seed, entrant, setup, begun)
    title = f"{plan.source.name}, {row.rate_per_s:.1f} requests/s, {entrant.name}, {steering.SEEDS} seeds"
    steering.draw(found, setup, title, file)


def _plan(args: argparse.Namespace) -> _Plan:
    """ValueError says which argument cannot be used."""
    origin = source(args.trace, args.population)
    duration = args.duration if args.duration is not None else DURATION_S if origin.rate_per_s is None else FOREVER
    if not duration > 0:
        raise ValueError(f"--duration must be above 0, got {duration}")
    shares = pairs(args.slo, ("ttft", "tpot"), f"--slo: expected ttft=SECONDS,tpot=SECONDS, got {args.slo!r}")
    loads, rates = _numbers("--load", args.load, float), _numbers("--rate", args.rate, float)
    if not loads and not rates:
        loads, rates = (
            ([LOAD if args.day is None else PEAK], []) if origin.rate_per_s is None else ([], [origin.rate_per_s])
        )
    if not all(0 < value < FOREVER for value in (*loads, *rates)):
        raise ValueError("--load and --rate must be above 0")
    fleets = [
        (name, _setup(args, EngineParams.named(name), replicas))
        for name in args.hardware.split(",")
        for replicas in _numbers("--replicas", args.replicas, int)
    ]
    window = (0.0 if origin.rate_per_s else WARM_UP * duration, FOREVER)
    if args.window is not None:
        start, _, end = args.window.partition("-")
        window = span(start, end, f"--window: expected FROM-TO in seconds, got {args.window!r}")
    slo = Slo(shares.get("ttft", Slo().ttft_s), shares.get("tpot", Slo().tpot_s))
    return _Plan(origin, _policies(args.policy), fleets, rates, loads, duration, window, slo, args.seed)


def _policies(text: str) -> list[Entrant]:
    groups = {"all": list(ENTRANTS), "peers": ["prefix", *PEERS]}
    names = dict.fromkeys(name for given in text.split(",") for name in groups.get(given, [given]))  # each once
    unknown = [name for name in names if name not in ENTRANTS]
    if unknown:
        raise ValueError(f"unknown policy {unknown[0]!r}; there are {', '.join(ENTRANTS)}")
    return [ENTRANTS[name] for name in names]


def _setup(args: argparse.Namespace, params: EngineParams, replicas: int) -> Setup:
    delay = None if args.delay == "never" else _numbers("--delay", args.delay, float)[0]
    return Setup(
        replicas=replicas,
        params=params,
        speeds=tuple(_numbers("--speeds", args.speeds, float)),
        kv_tokens=tuple(_numbers("--kv", args.kv, int)),
        gateways=args.gateways,
        delay_s=delay,
        throttles=tuple(map(Throttle.parse, args.throttle)),
        kills=tuple(map(Kill.parse, args.kill)),
        telemetry=args.telemetry,
        learned=args.learned,
        noise=args.noise,
        replies=not args.no_replies,
    )


def _numbers(option: str, text: str | None, number: Callable[[str], _T]) -> list[_T]:
    if text is None:
        return []
    try:
        return [number(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option}: expected numbers with commas between them, got {text!r}") from None


def _rows(plan: _Plan, progress: Progress) -> Iterator[Row]:
    for hardware, setup in plan.fleets:
        name = f"{setup.replicas} x {hardware}"
        points: list[tuple[float, float | None]] = [(rate, None) for rate in plan.rates]
        if plan.loads:
            progress.update(f"{name}: finding its capacity", 0, 1)
            most = capacity(plan.source, setup, plan.seed)
            progress.finish(f"{name}: capacity {most:.1f} requests/s")
            points = [(load * most, load) for load in plan.loads]
        for rate, load in points:
            items = plan.source.trace(rate, plan.duration_s, plan.seed)
            for entrant in plan.policies:
                label = f"{name}, {rate:.1f} requests/s, {entrant.name}"

                def ended(count: int, label: str = label, of: int = len(items)) -> None:
                    if count % 100 == 0:
                        progress.update(label, count, of)

                done = simulate(items, entrant, setup, ended)
                progress.finish(f"{label}: {len(items)} requests")
                row = figures(done, plan.slo, plan.window)
                yield Row(hardware, HARDWARE_GPUS[hardware], setup.replicas, rate, load, row)


def _answers(plan: _Plan, rows: list[Row]) -> list[str]:
    """How many replicas are needed; only a sweep of sizes at one rate tells."""
    sizes = {row.replicas for row in rows}
    return needed(rows, plan.slo.ttft_s) if len(sizes) > 1 and len(plan.rates) == 1 else []


def _json(plan: _Plan, rows: list[Row], answers: list[str]) -> str:
    found = {
        "trace": plan.source.name,
        "note": plan.source.note or None,
        "seed": plan.seed,
        "duration_s": plan.duration_s if plan.duration_s < FOREVER else None,
        "slo": plan.slo,
        "rows": [plain(row) for row in rows],
        "needed": answers,
        "relative_ttft_p99": relative(rows),
    }
    return msgspec.json.encode(found).decode()


def _text(plan: _Plan, rows: list[Row], answers: list[str]) -> str:
    lines = [f"note: {plan.source.note}"] if plan.source.note else []
    lines.append(table(HEADS, map(cells, rows)))
    shares = ", ".join(f"{share:.3f} of {policy}'s" for policy, share in relative(rows).items())
    if shares:
        lines += ["", f"p99 TTFT of {rows[0].figures.policy}, geometric mean: {shares}"]
    if answers:
        lines += ["", f"p99 TTFT within {plan.slo.ttft_s * 1000:g} ms at {plan.rates[0]:g} requests/s:", *answers]
    return "\n".join(lines)
