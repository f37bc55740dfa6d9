"""`gateway demo`: the gateway, an emulated fleet, live traffic, and every now and then a GPU that gets too hot."""

import argparse
import itertools
import random
import sys
from math import inf

import anyio
import httpx
import msgspec

from gateway.app import Gateway
from gateway.cli.embedded import EmbeddedFleet, embedded_fleet
from gateway.cli.loading import add_config_option, load_or_report
from gateway.cli.serve import EMBEDDED_REPLICAS, greet, serve, with_fleet
from gateway.config import Config
from gateway.observability.logs import configure
from gateway.observability.recent import Figures

CALM_S = 20.0
HOT_S = 30.0
CLOCK_RATIO = 0.4
"""What a GPU keeps of its clock when it protects itself from heat."""

REPORT_S = 5.0
MAX_IN_FLIGHT = 64
"""Requests of the demo at one time; at this number it waits, as people at a form would."""

DRAIN_S = 5.0
PROBE_S = 0.5

APPLICATIONS = ("a bookshop", "a hospital's pharmacy", "a railway's timetable", "a game studio", "a city's archive")
QUESTIONS = ("What is new today?", "Explain it in two sentences.", "Why is that?", "And how long does it take?")
RULES = "Answer in the user's language. Be brief, name your sources, and say so when you do not know something. "


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("demo", help="serve an emulated fleet under live traffic", description=__doc__)
    add_config_option(parser)
    parser.add_argument("--rate", type=_above_zero, default=6.0, metavar="R", help="requests per second (default 6)")
    parser.add_argument(
        "--calm", type=_above_zero, default=CALM_S, metavar="S", help=f"seconds before each hot GPU (default {CALM_S})"
    )
    parser.add_argument(
        "--hot", type=_above_zero, default=HOT_S, metavar="S", help=f"seconds that it stays hot (default {HOT_S})"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM (0) or Ctrl-C (130). 2: the config is wrong or names replicas, or a port is taken."""
    config = load_or_report(args.config)
    if config is None:
        return 2
    if config.replicas:
        print("the demo starts its own replicas: leave `replicas` out, or use `gateway serve`", file=sys.stderr)
        return 2
    config = _lively(config)
    configure(config.logging.format, config.logging.level)
    with embedded_fleet(EMBEDDED_REPLICAS) as fleet:
        try:
            gateway = Gateway(with_fleet(config, fleet))
        except OSError as error:
            print(error.strerror or error, file=sys.stderr)
            return 2
        demo = Demo(fleet, rate=args.rate, calm_s=args.calm, hot_s=args.hot)
        return serve(gateway, demo.run)


class Demo:
    """What goes on beside the gateway: it tells, asks, heats and cools until the gateway drains."""

    def __init__(self, fleet: EmbeddedFleet, *, rate: float, calm_s: float, hot_s: float) -> None:
        self._fleet = fleet
        self._rate = rate
        self._calm_s = calm_s
        self._hot_s = hot_s
        self._random = random.Random()
        self._in_flight = anyio.CapacityLimiter(MAX_IN_FLIGHT)

    async def run(self, gateway: Gateway) -> None:
        await greet(gateway)
        _say(f"GPUs       {self._fleet.gpu_url}")
        limits = httpx.Limits(max_connections=MAX_IN_FLIGHT)
        async with (
            httpx.AsyncClient(trust_env=False, timeout=None, limits=limits) as http,
            anyio.create_task_group() as group,
        ):
            group.start_soon(self._ask_on, gateway, http)
            group.start_soon(self._heat, gateway, http)
            group.start_soon(self._report, gateway)

    async def _ask_on(self, gateway: Gateway, http: httpx.AsyncClient) -> None:
        """Requests at random moments, `rate` a second; each is streamed and read to its end."""
        async with anyio.create_task_group() as group:
            for number in itertools.count():
                if gateway.desk.draining:
                    return
                await self._in_flight.acquire_on_behalf_of(number)
                group.start_soon(self._ask, gateway, http, number)
                await anyio.sleep(self._random.expovariate(self._rate))

    async def _ask(self, gateway: Gateway, http: httpx.AsyncClient, number: int) -> None:
        application = self._random.choice(APPLICATIONS)
        body = {
            "model": "emulated",
            "stream": True,
            "max_tokens": self._random.randint(40, 160),
            "messages": [
                {"role": "system", "content": f"You are the assistant of {application}. " + RULES * 20},
                {"role": "user", "content": f"{self._random.choice(QUESTIONS)} ({number})"},
            ],
        }
        try:
            async with http.stream("POST", f"{gateway.url}/v1/chat/completions", json=body) as answer:
                async for _ in answer.aiter_raw():
                    pass
        except httpx.HTTPError as error:
            if not gateway.desk.draining:
                _say(f"a request failed: {error or type(error).__name__}")
        finally:
            self._in_flight.release_on_behalf_of(number)

    async def _heat(self, gateway: Gateway, http: httpx.AsyncClient) -> None:
        """One replica after the other gets hot for a while."""
        for index in itertools.cycle(range(len(self._fleet.urls))):
            name = gateway.board.current.replicas[index].id
            await anyio.sleep(self._calm_s)
            await self._command(http, {"replica": index, "fault": "throttle", "factor": CLOCK_RATIO})
            _say(f"{name}: its GPU is too hot and runs at {CLOCK_RATIO:.0%} of its clock")
            await anyio.sleep(self._hot_s)
            await self._command(http, {"replica": index, "fault": "recover"})
            _say(f"{name}: its GPU has cooled down")

    async def _command(self, http: httpx.AsyncClient, fault: dict[str, object]) -> None:
        answer = await http.post(f"{self._fleet.control_url}/emulator/faults", json=fault)
        answer.raise_for_status()

    async def _report(self, gateway: Gateway) -> None:
        while True:
            await anyio.sleep(REPORT_S)
            loads = [gateway.books[view.id].in_flight for view in gateway.board.current.replicas]
            _say(_line(gateway.recent.figures(), loads))


def _line(figures: Figures, loads: list[int]) -> str:
    ttft = ", ".join(
        f"p{name} {'–' if value is None else f'{value * 1000:.0f} ms'}"
        for name, value in ((50, figures.ttft_p50_s), (95, figures.ttft_p95_s))
    )
    return (
        f"{figures.requests_per_s:.1f} requests/s, {figures.tokens_per_s:.0f} tokens/s, TTFT {ttft},"
        f" in flight {' '.join(map(str, loads))}, failed {figures.failures} of {figures.requests}"
    )


def _lively(config: Config) -> Config:
    """The config for an audience: no line per request on the terminal, quick probes, a short farewell."""
    replace = msgspec.structs.replace
    probe = replace(config.resilience.probe, interval_s=min(PROBE_S, config.resilience.probe.interval_s))
    quiet = config.logging.level in ("debug", "info")
    return replace(
        config,
        server=replace(config.server, drain_timeout_s=min(DRAIN_S, config.server.drain_timeout_s)),
        resilience=replace(config.resilience, probe=probe),
        logging=replace(config.logging, level="warning") if quiet else config.logging,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _above_zero(text: str) -> float:
    """argparse's type of a number that must be above 0; its errors begin with the option's name."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number
