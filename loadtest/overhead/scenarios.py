"""The measurements: each drives one system for a bounded time and returns its figures by key (`report.FIGURES`)."""

import asyncio
import gc
import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from loadtest.overhead.bodies import requests
from loadtest.overhead.client import Client, Connection, Exchange, LoadError
from loadtest.overhead.systems import Processes, System, wait_for_port

Readings = dict[str, float]
Scenario = Callable[[System, "Size"], Awaitable[Readings]]
LIMIT_S = 60.0
READY_S = 30.0
STREAMS = 64
INTERVAL_MS = 20.0
FIRST_MS = 5.0
ARRIVALS_PER_S = 50.0
HOLD_MS = 3_600_000.0  # an idle stream's second token: never, within a run


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; `quick` is for a look, not for a claim."""

    small_requests: int = 4000
    large_requests: int = 1500
    window_s: float = 3.0
    ttft_s: float = 5.0
    chunks: int = 80_000
    idle_streams: int = 1000
    rest_s: float = 1.0


QUICK = Size(800, 300, 1.0, 2.0, 10_000, 1000, 0.5)


async def ready(system: System, processes: Processes) -> None:
    """Return once a chat request is answered through the system; RuntimeError after READY_S or when it has exited."""
    request = requests(1, 2048, stream=False)[0]
    end_s = time.monotonic() + READY_S
    why: Exception | None = None
    while time.monotonic() < end_s:
        processes.check(system)
        if wait_for_port(system.port, 0.1):
            client = Client(system.port)
            try:
                async with asyncio.timeout(5):
                    await client.ask(request)
                return
            except (LoadError, OSError, TimeoutError) as exc:
                why = exc
            finally:
                client.close()
        await asyncio.sleep(0.1)
    raise RuntimeError(f"{system.name} was not ready after {READY_S:.0f} s: {why!r}")


async def _cpu_per_request_us(system: System, size: int, count: int) -> float:
    """Closed loop of 8 connections, after a warm-up of a tenth."""
    pool = requests(32, size, stream=False)
    client = Client(system.port)
    try:
        await client.closed_loop(itertools.islice(itertools.cycle(pool), max(64, count // 10)), 8)
        before_s = system.cpu_s()
        await client.closed_loop(itertools.islice(itertools.cycle(pool), count), 8)
        return (system.cpu_s() - before_s) / count * 1e6
    finally:
        client.close()


async def small(system: System, size: Size) -> Readings:
    """CPU of a 2 KB request that is not streamed."""
    return {"small_us": await _cpu_per_request_us(system, 2048, size.small_requests)}


async def large(system: System, size: Size) -> Readings:
    """CPU of a 32 KB request that is not streamed."""
    return {"large_us": await _cpu_per_request_us(system, 32768, size.large_requests)}


async def _open_streams(client: Client, pool: list[bytes], spread_s: float) -> list[Exchange]:
    """Start a stream per request, evenly over `spread_s`, and return when each has its first token."""
    exchanges: list[Exchange] = []
    start_s = client.loop.time()
    for number, request in enumerate(pool):
        await asyncio.sleep(max(0.0, start_s + number * spread_s / len(pool) - client.loop.time()))
        connection: Connection = await client.take()
        exchanges.append(connection.begin(request))
    for exchange in exchanges:
        await exchange.first_token
    return exchanges


async def paced(system: System, size: Size) -> Readings:
    """CPU per chunk of 64 streams at 50 tokens/s, then TTFT of an open-loop load beside them."""
    tokens = int((size.window_s + size.ttft_s + 10) * 1000 / INTERVAL_MS)
    pool = requests(STREAMS, 2048, stream=True, first_ms=FIRST_MS, interval_ms=INTERVAL_MS, tokens=tokens)
    client = Client(system.port)
    try:
        # Spread over many intervals plus one: the streams tick at different times, each chunk its own wake-up.
        exchanges = await _open_streams(client, pool, STREAMS * INTERVAL_MS / 1000 * (1 + 1 / STREAMS))
        await asyncio.sleep(0.3)
        readings = await _chunk_window(client, system, size.window_s)
        readings |= await _open_loop(system, size.ttft_s)
        if any(e.finished.done() for e in exchanges):
            raise LoadError("a stream ended before the measurement did")
        return readings
    finally:
        client.close()


async def _chunk_window(client: Client, system: System, window_s: float) -> Readings:
    tokens, before_s, start_s = client.tokens, system.cpu_s(), time.perf_counter()
    await asyncio.sleep(window_s)
    seen, cpu_s, wall_s = client.tokens - tokens, system.cpu_s() - before_s, time.perf_counter() - start_s
    planned = STREAMS * 1000 / INTERVAL_MS * wall_s
    if seen < 0.9 * planned:
        raise LoadError(
            f"{seen} of {planned:.0f} paced chunks arrived: the machine was too busy or the system too slow"
        )
    return {"chunk_us": cpu_s / seen * 1e6}


async def _open_loop(system: System, duration_s: float) -> Readings:
    """TTFT, less the mock's first_ms, of Poisson arrivals with a fixed seed: none waits for another's answer."""
    pool = itertools.cycle(requests(32, 2048, stream=True, first_ms=FIRST_MS, interval_ms=INTERVAL_MS, tokens=4))
    rng = random.Random(7)
    client = Client(system.port)
    answered: list[asyncio.Task[Exchange]] = []
    # The load generator's own collections would be counted as the system's tail.
    gc.collect()
    gc.disable()
    try:
        await client.closed_loop(itertools.islice(pool, 16), 16, tokens=4)
        async with asyncio.TaskGroup() as group:
            due_s = start_s = time.perf_counter()
            while due_s < start_s + duration_s:
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                answered.append(group.create_task(client.ask(next(pool), tokens=4)))
                due_s += rng.expovariate(ARRIVALS_PER_S)
    finally:
        gc.enable()
        client.close()
    cuts = statistics.quantiles(
        [task.result().ttft_s() * 1000 - FIRST_MS for task in answered], n=100, method="inclusive"
    )
    return {"ttft_p50_ms": cuts[49], "ttft_p99_ms": cuts[98]}


async def unpaced(system: System, size: Size) -> Readings:
    """Chunks/s of 16 streams whose replicas send as fast as they can, and how busy that kept the system's core."""
    per_stream = 500
    count = max(16, size.chunks // per_stream)
    pool = requests(16, 2048, stream=True, tokens=per_stream)
    client = Client(system.port)
    try:
        await client.closed_loop(pool, 16, tokens=per_stream)
        before_s, start_s = system.cpu_s(), time.perf_counter()
        await client.closed_loop(itertools.islice(itertools.cycle(pool), count), 16, tokens=per_stream)
        wall_s, cpu_s = time.perf_counter() - start_s, system.cpu_s() - before_s
    finally:
        client.close()
    chunks = count * per_stream
    return {"unpaced_wall": chunks / wall_s, "unpaced_cpu": chunks / cpu_s, "unpaced_busy": cpu_s / wall_s * 100}


async def rest(system: System, size: Size) -> Readings:
    """CPU of a system that nobody asks anything: its health checks and scrapes."""
    before_s = system.cpu_s()
    await asyncio.sleep(size.rest_s)
    return {"rest_ms": (system.cpu_s() - before_s) / size.rest_s * 1000}


async def idle(system: System, size: Size) -> Readings:
    """Resident MB of a fresh system, and with streams that sent one token and then nothing."""
    pool = requests(size.idle_streams, 2048, stream=True, interval_ms=HOLD_MS, tokens=2)
    client = Client(system.port)
    try:
        fresh_mb = system.resident_mb()
        exchanges = await _open_streams(client, pool, 1.0)
        await asyncio.sleep(0.5)
        resident_mb = system.resident_mb()
        if any(e.finished.done() for e in exchanges):
            raise LoadError("an idle stream was ended")
        return {"fresh_mb": fresh_mb, "idle_mb": resident_mb}
    finally:
        client.close()


async def bounded(scenario: Scenario, system: System, size: Size) -> Readings:
    """The scenario's readings, within LIMIT_S; raises LoadError that names the system and the scenario."""
    name = getattr(scenario, "__name__", "scenario")
    try:
        async with asyncio.timeout(LIMIT_S):
            return await scenario(system, size)
    except* (LoadError, OSError, TimeoutError) as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise LoadError(f"{system.name}, {name}: {first or type(first).__name__}") from None
