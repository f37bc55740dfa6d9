"""What goes on beside the requests: whatever keeps the board up to date, and acts on what it shows."""

from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from gateway.config import Config
from gateway.core.gpu import Gpus
from gateway.observability.metrics import Metrics
from gateway.serving.desk import Desk
from gateway.serving.lookout import Lookout
from gateway.telemetry.engine import EngineTelemetry
from gateway.telemetry.gpu import GpuTelemetry, Source
from gateway.telemetry.models import no_answer
from gateway.telemetry.poller import Poller
from gateway.telemetry.probes import Prober
from gateway.telemetry.steward import Steward
from gateway.telemetry.warmup import Warmer

Watch = Callable[[], Coroutine[Any, Any, None]]
"""Runs until cancelled."""


def watches(config: Config, desk: Desk, gpus: Gpus, metrics: Metrics, http: httpx.AsyncClient) -> list[Watch]:
    """All of them: each is independent, and to be run in a task of its own."""
    stale_s = config.telemetry.engine.stale_after_s
    return [
        _lookout(config, desk).run,
        _poller(config, desk, http).run,
        _warmer(config, desk, metrics, http).run,
        _engine_telemetry(config, desk, metrics, http).run,
        _gpu_telemetry(config, desk, gpus, metrics, http).run,
        Steward(desk.board, desk.index, desk.ratios, desk.slowness, gpus, desk.clock, engine_stale_s=stale_s).run,
    ]


def _lookout(config: Config, desk: Desk) -> Lookout:
    return Lookout(
        desk.streams,
        desk.board,
        desk.pool,
        desk.clock,
        connect_timeout_s=config.resilience.connect_timeout_s,
        drain_timeout_s=config.server.drain_timeout_s,
    )


def _poller(config: Config, desk: Desk, http: httpx.AsyncClient) -> Poller:
    probe = config.resilience.probe
    prober = Prober(http, path=probe.path, timeout_s=config.telemetry.engine.timeout_s)
    return Poller(desk.board, desk.clock, prober.ask, no_answer, interval_s=probe.interval_s)


def _warmer(config: Config, desk: Desk, metrics: Metrics, http: httpx.AsyncClient) -> Warmer:
    warm_up = config.resilience.warm_up
    return Warmer(
        http,
        desk.board,
        desk.clock,
        desk.hot,
        desk.index,
        prompts=warm_up.prompts,
        max_s=warm_up.max_s,
        count=lambda outcome: metrics.warmups.labels(outcome).inc(),
    )


def _engine_telemetry(config: Config, desk: Desk, metrics: Metrics, http: httpx.AsyncClient) -> EngineTelemetry:
    engine = config.telemetry.engine
    failures = metrics.unread.labels("engine")
    return EngineTelemetry(
        http,
        desk.board,
        desk.books,
        desk.clock,
        interval_s=engine.interval_s,
        timeout_s=engine.timeout_s,
        count=lambda _: failures.inc(),
    )


def _gpu_telemetry(config: Config, desk: Desk, gpus: Gpus, metrics: Metrics, http: httpx.AsyncClient) -> GpuTelemetry:
    gpu = config.telemetry.gpu
    sources = [Source(kind, url, entry.host) for entry in gpu.sources for kind, url in entry.kinds.items()]
    return GpuTelemetry(
        sources,
        http,
        desk.board,
        gpus,
        desk.clock,
        interval_s=gpu.interval_s,
        count=lambda kind: metrics.unread.labels(kind).inc(),
    )
