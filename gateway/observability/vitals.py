"""Gauges of what engines and GPUs tell of themselves, read off the board at each scrape. The unknown has no line."""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.core.alarm import slow_ratio, worst
from gateway.core.fleet import Board
from gateway.core.gpu import BAD, slowest
from gateway.core.pressure import pressure
from gateway.core.types import ReplicaView
from gateway.core.vitals import GpuView, Reason

SHOWN = (*sorted(BAD), Reason.POWER_CAP)
"""The reasons that have a series each: what slows a GPU down, and the power cap, which people ask for."""


class Vitals(Collector):
    """`now`: monotonic seconds, as those of the board's readings."""

    def __init__(self, board: Board, now: Callable[[], float]) -> None:
        self._board = board
        self._now = now

    def collect(self) -> Iterable[Metric]:
        families = _Families()
        now = self._now()
        for view in self._board.current.replicas:
            families.engine(view, now)
            families.slowdown(view)
            families.gpus(view, now)
        return families.all()


class _Families:
    def __init__(self) -> None:
        self._all: list[Metric] = []
        self._kv_usage = self._gauge("gateway_replica_kv_usage_ratio", "KV cache in use, as the engine tells.")
        self._waiting = self._gauge("gateway_replica_waiting_requests", "Requests that wait in the engine.")
        self._running = self._gauge("gateway_replica_running_requests", "Requests that run in the engine.")
        self._short = self._gauge("gateway_replica_kv_pressure", "1 while the KV cache is short of room.")
        self._age = self._gauge("gateway_telemetry_age_seconds", "Age of the newest reading.", "source")
        self._preemptions = CounterMetricFamily(
            "gateway_replica_preemptions_total", "Preemptions since the engine began.", labels=["replica"]
        )
        self._all.append(self._preemptions)
        self._slowdown = self._gauge("gateway_replica_slowdown_ratio", "Times slower than nominal.", "source")
        self._temperature = self._gauge("gateway_gpu_temperature_celsius", "Temperature of a GPU's core.", "gpu")
        self._power = self._gauge("gateway_gpu_power_watts", "Power that a GPU draws.", "gpu")
        self._throttled = self._gauge("gateway_gpu_throttled", "1 while a GPU's clock is cut.", "gpu", "reason")

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, text, labels=["replica", *labels])
        self._all.append(family)
        return family

    def engine(self, view: ReplicaView, now: float) -> None:
        engine = view.engine
        if engine is None:
            return
        self._age.add_metric([view.id, "engine"], now - engine.at)
        figures = engine.figures
        if figures is None:
            return
        _add(self._kv_usage, view.id, figures.kv_usage_ratio)
        _add(self._waiting, view.id, figures.waiting)
        _add(self._running, view.id, figures.running)
        _add(self._preemptions, view.id, figures.preemptions)
        self._short.add_metric([view.id], float(pressure(view, now) is not None))

    def slowdown(self, view: ReplicaView) -> None:
        learned = None if view.learned is None else worst(view.learned)
        for source, ratio in (("gpu", slowest(view.gpus)), ("learned", learned), ("used", slow_ratio(view))):
            if ratio is not None:
                self._slowdown.add_metric([view.id, source], ratio)

    def gpus(self, view: ReplicaView, now: float) -> None:
        times = [gpu.at for gpu in view.gpus if gpu.at is not None]
        if times:
            self._age.add_metric([view.id, "gpu"], now - min(times))
        for gpu in view.gpus:
            self._gpu(view.id, gpu)

    def _gpu(self, replica: str, gpu: GpuView) -> None:
        if gpu.temp_c is not None:
            self._temperature.add_metric([replica, gpu.name], gpu.temp_c)
        if gpu.power_w is not None:
            self._power.add_metric([replica, gpu.name], gpu.power_w)
        for reason in SHOWN if gpu.reasons is not None else ():
            self._throttled.add_metric([replica, gpu.name, reason.value], float(reason in (gpu.reasons or ())))

    def all(self) -> list[Metric]:
        return self._all


def _add(family: GaugeMetricFamily | CounterMetricFamily, replica: str, value: float | None) -> None:
    if value is not None:
        family.add_metric([replica], value)
