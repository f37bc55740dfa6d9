"""Every Prometheus series of the gateway, by the names of docs/metrics.md; children are kept, `labels()` is slow."""

import asyncio
import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.types import ReplicaState
from gateway.observability.loop_series import LoopCounter, LoopHistogram
from gateway.observability.vitals import Vitals

_TTFT_BUCKETS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60, 120)
_TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 10)
_DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
_WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
_STAGE_BUCKETS = (0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.1, 1)


class Metrics:
    """The series that requests feed, plus the gauges read off the books, the board and the index at each scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        board: Board,
        books: Books,
        index: PrefixIndex,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        counter, histogram = self._counter, self._histogram
        self.requests = counter("gateway_requests_total", "Requests ended.", "model", "replica", "code", "class")
        self.ttft = histogram(
            "gateway_time_to_first_token_seconds",
            "First byte of the request read to first event with output handed to the socket.",
            _TTFT_BUCKETS,
            "model",
            "replica",
        )
        self.itl = histogram(
            "gateway_inter_token_latency_seconds",
            "Time between two events with output.",
            _TOKEN_BUCKETS,
            "model",
            "replica",
        )
        self.tpot = histogram(
            "gateway_time_per_output_token_seconds",
            "First to last output, per completion token after the first.",
            _TOKEN_BUCKETS,
            "model",
            "replica",
        )
        self.duration = histogram(
            "gateway_request_duration_seconds", "First byte read to the end.", _DURATION_BUCKETS, "model", "class"
        )
        self.queue_wait = histogram(
            "gateway_queue_wait_seconds", "Request read to dispatch.", _WAIT_BUCKETS, "model", "class"
        )
        self.overhead = histogram(
            "gateway_overhead_seconds", "Time a request spends in a stage of the gateway.", _STAGE_BUCKETS, "stage"
        )
        self.tokens = counter("gateway_tokens_total", "Tokens by usage.", "model", "tenant", "kind")
        self.decisions = counter("gateway_routing_decisions_total", "Decisions by policy.", "policy", "reason")
        self.prefix = counter("gateway_prefix_tokens_total", "Prompt tokens dispatched, by the prefix index.", "kind")
        self.avoidable = counter(
            "gateway_avoidable_prefill_tokens_total",
            "Prefill given away by not choosing the replica with the longest match.",
        ).labels()
        self.retries = counter("gateway_retries_total", "Attempts given up for the next replica.", "reason")
        self.resumes = counter("gateway_resumes_total", "Streams that broke off, and what became of them.", "outcome")
        self.hedges = counter("gateway_hedges_total", "Second replicas asked, and what came of it.", "outcome")
        self.warmups = counter("gateway_warmups_total", "Warm-ups of replicas that came back.", "outcome")
        self.disconnects = counter("gateway_client_disconnects_total", "Clients that left first.", "phase")
        self.unread = counter("gateway_telemetry_failures_total", "Readings that failed or were not right.", "source")
        registry.register(_Gauges(board, books, index))
        registry.register(Vitals(board, now))

    def drop(self, replica: str) -> None:
        """Forget the series of a replica that has left; those of the gauges end with its place on the board."""
        self.requests.drop("replica", replica)
        for histogram in (self.ttft, self.itl, self.tpot):
            histogram.drop("replica", replica)

    def _counter(self, name: str, text: str, *labels: str) -> LoopCounter:
        series = LoopCounter(name, text, labels)
        self._registry.register(series)
        return series

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> LoopHistogram:
        series = LoopHistogram(name, text, labels, buckets=buckets)
        self._registry.register(series)
        return series

    def render(self) -> bytes:
        """All series in Prometheus' text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, board: Board, books: Books, index: PrefixIndex) -> None:
        self._board = board
        self._books = books
        self._index = index

    def collect(self) -> Iterable[Metric]:
        in_flight = GaugeMetricFamily(
            "gateway_in_flight_requests", "Requests of this gateway at a replica.", labels=["replica"]
        )
        states = GaugeMetricFamily(
            "gateway_replica_state", "1 for the state that a replica is in.", labels=["replica", "state"]
        )
        blocks = GaugeMetricFamily(
            "gateway_prefix_index_blocks", "Prompt blocks that a replica is believed to hold.", labels=["replica"]
        )
        tasks = GaugeMetricFamily("gateway_event_loop_tasks", "Tasks of the gateway's event loop.")
        if (running := _tasks()) is not None:
            tasks.add_metric([], running)
        for view in self._board.current.replicas:
            blocks.add_metric([view.id], self._index.blocks(view.id))
            in_flight.add_metric([view.id], self._books[view.id].in_flight)
            for state in ReplicaState:
                states.add_metric([view.id, state.value], float(view.state is state))
        return (in_flight, states, blocks, tasks)


def _tasks() -> int | None:
    """Those that have not ended; `None` outside of a loop."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return None
