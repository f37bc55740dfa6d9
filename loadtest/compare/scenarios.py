"""What happens to the fleet while it is asked, and one run of one router through it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx

from gateway.cli.embedded import EmbeddedFleet, embedded_fleet
from loadtest.compare.client import DRAIN_S, Load, Outcome
from loadtest.compare.peers import Peer, started
from loadtest.compare.workload import MODEL, plan
from loadtest.overhead.systems import System

REPLICAS = 4
ENGINE = "70b-fp8-2h100"
GPUS = 2
CAPACITY_PER_S = 48.0
"""Requests of `characters` a second that four such replicas can take: what `gateway simulate` calls capacity."""
READY_S = 30.0
WARM_UP = 0.25
"""Share of a run that is not counted: caches are empty when it begins."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`load`: of the capacity. `faults`: share of the run at which it is commanded -> command.

    `most_tokens`: of an answer; `None`: as long as the trace has it.
    """

    name: str
    load: float
    faults: tuple[tuple[float, dict[str, object]], ...] = ()
    options: tuple[str, ...] = ()
    trace: str = "characters"
    most_tokens: int | None = None


_THROTTLED: dict[str, object] = {"replica": 0, "fault": "throttle", "cause": "thermal", "factor": 0.4}
SCENARIOS = (
    Scenario("steady", 0.85),
    Scenario("throttled", 0.6, ((0.25, _THROTTLED),)),
    Scenario("killed", 0.6, ((0.4, {"replica": 1, "fault": "die"}), (0.7, {"replica": 1, "fault": "recover"}))),
    Scenario("KV-short", 0.5, options=("--kv-tokens", "60000", "--max-model-len", "32768")),
    Scenario("one token", 0.85, most_tokens=1),
)


def steady(load: float) -> Scenario:
    """Nothing happens, at this share of the capacity."""
    return Scenario(f"steady {load:g}", load)


@dataclass(frozen=True, slots=True)
class Ran:
    """One router in one scenario. CPU in seconds, of the whole run; `wall_s`: how long that was."""

    peer: str
    scenario: str
    outcomes: list[Outcome]
    counted_from_s: float
    speed: float
    wall_s: float
    router_cpu_s: float
    fleet_cpu_s: float
    load_cpu_s: float
    preemptions: int


async def run(peer: Peer, scenario: Scenario, directory: Path, *, seconds: float, speed: float, seed: int) -> Ran:
    """A fresh fleet, the router before it, and the load; `seconds` of wall time. RuntimeError: it never answered."""
    planned = plan(
        scenario.trace,
        rate_per_s=scenario.load * CAPACITY_PER_S,
        duration_s=seconds * speed,
        seed=seed,
        most_tokens=scenario.most_tokens,
    )
    options = ("--engine", ENGINE, *scenario.options)
    with (
        embedded_fleet(REPLICAS, speed=speed, options=options) as fleet,
        started(peer, fleet, directory, gpus=GPUS) as router,
    ):
        await ready(router)
        emulator = System("fleet", 0, fleet.pid)
        before = (router.cpu_s(), emulator.cpu_s(), time.process_time(), time.perf_counter())
        async with anyio.create_task_group() as group:
            group.start_soon(_command, fleet, scenario, seconds)
            outcomes = await Load(router.port, speed).run(planned, Outcome)
        after = (router.cpu_s(), emulator.cpu_s(), time.process_time(), time.perf_counter())
        preemptions = await _preemptions(fleet)
    router_s, fleet_s, load_s, wall_s = (late - early for early, late in zip(before, after, strict=True))
    return Ran(
        peer.name, scenario.name, outcomes, WARM_UP * seconds, speed, wall_s, router_s, fleet_s, load_s, preemptions
    )


async def ready(router: System) -> None:
    """Until a chat is answered."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    url = f"http://127.0.0.1:{router.port}/v1/chat/completions"
    end_s = time.monotonic() + READY_S
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        while time.monotonic() < end_s:
            try:
                if (await http.post(url, json=body)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await anyio.sleep(0.2)
    raise RuntimeError(f"{router.name} did not answer within {READY_S:.0f} s")


async def _command(fleet: EmbeddedFleet, scenario: Scenario, seconds: float) -> None:
    began_s = time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=DRAIN_S) as http:
        for share, fault in scenario.faults:
            await anyio.sleep(max(0.0, began_s + share * seconds - time.monotonic()))
            (await http.post(f"{fleet.control_url}/emulator/faults", json=fault)).raise_for_status()


async def _preemptions(fleet: EmbeddedFleet) -> int:
    """Of all replicas; one that has died and come back counts from there."""
    async with httpx.AsyncClient(trust_env=False, timeout=DRAIN_S) as http:
        pages = [(await http.get(f"{url}/metrics")).text for url in fleet.urls]
    return sum(_counter(page, "vllm:num_preemptions_total") for page in pages)


def _counter(page: str, name: str) -> int:
    lines: Sequence[str] = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return round(sum(float(line.rpartition(" ")[2]) for line in lines))
