import asyncio

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.types import EngineView, FleetSnapshot, Replica, ReplicaId, ReplicaState, ReplicaView, Slowdown
from gateway.core.vitals import EngineFigures, GpuView
from gateway.observability.ledger import Ledger
from gateway.observability.metrics import Metrics
from gateway.observability.records import RequestRecord

CONTRACT = {
    "gateway_requests": ("counter", {"model", "replica", "code", "class"}),
    "gateway_time_to_first_token_seconds": ("histogram", {"model", "replica"}),
    "gateway_inter_token_latency_seconds": ("histogram", {"model", "replica"}),
    "gateway_time_per_output_token_seconds": ("histogram", {"model", "replica"}),
    "gateway_request_duration_seconds": ("histogram", {"model", "class"}),
    "gateway_queue_wait_seconds": ("histogram", {"model", "class"}),
    "gateway_overhead_seconds": ("histogram", {"stage"}),
    "gateway_tokens": ("counter", {"model", "tenant", "kind"}),
    "gateway_routing_decisions": ("counter", {"policy", "reason"}),
    "gateway_prefix_tokens": ("counter", {"kind"}),
    "gateway_avoidable_prefill_tokens": ("counter", set()),
    "gateway_retries": ("counter", {"reason"}),
    "gateway_client_disconnects": ("counter", {"phase"}),
    "gateway_in_flight_requests": ("gauge", {"replica"}),
    "gateway_replica_state": ("gauge", {"replica", "state"}),
    "gateway_prefix_index_blocks": ("gauge", {"replica"}),
    "gateway_event_loop_tasks": ("gauge", set()),
    "gateway_replica_kv_usage_ratio": ("gauge", {"replica"}),
    "gateway_replica_waiting_requests": ("gauge", {"replica"}),
    "gateway_replica_running_requests": ("gauge", {"replica"}),
    "gateway_replica_preemptions": ("counter", {"replica"}),
    "gateway_replica_kv_pressure": ("gauge", {"replica"}),
    "gateway_telemetry_age_seconds": ("gauge", {"replica", "source"}),
    "gateway_replica_slowdown_ratio": ("gauge", {"replica", "source"}),
    "gateway_gpu_temperature_celsius": ("gauge", {"replica", "gpu"}),
    "gateway_gpu_power_watts": ("gauge", {"replica", "gpu"}),
    "gateway_gpu_throttled": ("gauge", {"replica", "gpu", "reason"}),
    "gateway_telemetry_failures": ("counter", {"source"}),
}
"""The series of the metrics reference that exist so far: kind and labels (the parser takes `_total` off counters)."""

_TOLD = EngineFigures(kv_usage_ratio=0.5, kv_capacity_tokens=1000, running=3, waiting=1, preemptions=2)
_GPU = GpuView("n:0", "dcgm", 1.0, temp_c=60.0, power_w=500.0, reasons=frozenset(), slowdown=1.0)
A, B = (
    ReplicaView(
        Replica(ReplicaId(name), f"http://{name}"),
        ReplicaState.READY,
        engine=EngineView(1.0, _TOLD, _TOLD),
        gpus=(_GPU,),
        learned=Slowdown(),
        slowdown=Slowdown(),
    )
    for name in "ab"
)


def scrape(metrics: Metrics) -> dict[str, tuple[str, list]]:
    """What Prometheus reads: kind and samples of each family, without the times at which series began."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        family.name: (family.type, [sample for sample in family.samples if not sample.name.endswith("_created")])
        for family in families
        if not family.name.endswith("_created")
    }


@pytest.fixture
def board() -> Board:
    return Board(FleetSnapshot((A, B)))


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def index() -> PrefixIndex:
    return PrefixIndex()


@pytest.fixture
def metrics(board: Board, books: Books, index: PrefixIndex) -> Metrics:
    return Metrics(CollectorRegistry(), board, books, index)


def feed_all(metrics: Metrics) -> None:
    """At least one sample for every series."""
    metrics.unread.labels("engine").inc()
    ledger = Ledger(metrics)
    ledger.stage("read", 0.001)
    ledger.decided("least_load", "load")
    ledger.retried("connect")
    ledger.prefix(100, 60, 20)
    ledger.series("m", "a", "standard", "default").itl.observe(0.01)
    ledger.settle(
        RequestRecord(
            time=1.0,
            request_id="x",
            model="m",
            replica="a",
            status=200,
            prompt_tokens=3,
            ttft_s=0.1,
            tpot_s=0.01,
            duration_s=1.0,
            queue_s=0.0,
            disconnected="streaming",
        )
    )


def test_names_kinds_and_labels_are_the_contracts(metrics):
    """Dashboards and alerts are written against these names, so none differs and none has another label."""
    feed_all(metrics)
    seen = scrape(metrics)
    assert {name for name in seen if name.startswith("gateway_")} >= set(CONTRACT)
    for name, (kind, labels) in CONTRACT.items():
        told_kind, samples = seen[name]
        assert told_kind == kind, name
        assert {label for sample in samples for label in sample.labels} - {"le"} == labels, name


def test_tasks_of_the_loop_are_counted(metrics):
    """From inside it; elsewhere they are not known, which is no line and not 0."""

    async def inside():
        return scrape(metrics)["gateway_event_loop_tasks"]

    (sample,) = asyncio.run(inside())[1]
    assert sample.value == 1
    assert scrape(metrics)["gateway_event_loop_tasks"] == ("gauge", [])


def test_counters_end_in_total(metrics):
    """A counter's samples carry the suffix that Prometheus wants, once."""
    feed_all(metrics)
    _, samples = scrape(metrics)["gateway_requests"]
    assert {sample.name for sample in samples} == {"gateway_requests_total"}


def test_buckets_add_up(metrics):
    """Every histogram's buckets rise to its count, and the last is +Inf."""
    feed_all(metrics)
    for name, (kind, samples) in scrape(metrics).items():
        if kind == "histogram":
            buckets = [sample for sample in samples if sample.name == f"{name}_bucket"]
            by_series: dict[tuple, list] = {}
            for sample in buckets:
                key = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
                by_series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
            assert by_series, name
            for series in by_series.values():
                values = [value for _, value in sorted(series)]
                assert values == sorted(values)
                assert max(series)[0] == float("inf")


def test_the_gauges_are_read_at_each_scrape(metrics, board, books):
    """Requests in flight and states are those of the moment, one state of five for each replica."""
    entry = books.open(A.id, 1, 1)
    assert in_flight(metrics) == {"a": 1, "b": 0}
    entry.close()
    board.publish(FleetSnapshot((A,)))
    assert in_flight(metrics) == {"a": 0}
    _, samples = scrape(metrics)["gateway_replica_state"]
    assert {sample.labels["state"]: sample.value for sample in samples} == {
        **dict.fromkeys(("warming", "suspect", "ejected", "draining"), 0.0),
        "ready": 1.0,
    }


def in_flight(metrics: Metrics) -> dict[str, float]:
    _, samples = scrape(metrics)["gateway_in_flight_requests"]
    return {sample.labels["replica"]: sample.value for sample in samples}


def test_an_empty_registry_can_be_scraped():
    """A gateway without replicas and requests is rendered as well, and two of them share nothing."""
    first, second = (Metrics(CollectorRegistry(), Board(FleetSnapshot()), Books(), PrefixIndex()) for _ in range(2))
    feed_all(first)
    assert scrape(second)["gateway_requests"][1] == []


def test_label_values_are_escaped(metrics):
    """A model's name with quotes and line breaks is read back as it was."""
    name = 'a"b\\c\nd'
    Ledger(metrics).settle(RequestRecord(time=1.0, request_id="x", model=name, replica="a", status=200))
    _, samples = scrape(metrics)["gateway_requests"]
    assert samples[0].labels["model"] == name


def test_prefill_given_away_is_counted(metrics):
    """100 tokens, 60 of them to compute where they go, 20 where they might have gone."""
    ledger = Ledger(metrics)
    ledger.prefix(100, 60, 20)
    ledger.prefix(10, 10, 10)
    seen = scrape(metrics)
    assert {sample.labels["kind"]: sample.value for sample in seen["gateway_prefix_tokens"][1]} == {
        "seen": 110,
        "expected_hit": 40,
    }
    assert [sample.value for sample in seen["gateway_avoidable_prefill_tokens"][1]] == [40]


def test_the_index_is_shown_by_replica(metrics: Metrics, index: PrefixIndex) -> None:
    """A replica that was sent nothing, or has restarted, holds 0 blocks; one that has left the fleet is not shown."""
    index.record(A.id, (1, 2, 3))
    index.record(ReplicaId("left"), (1, 2))
    _, samples = scrape(metrics)["gateway_prefix_index_blocks"]
    assert {sample.labels["replica"]: sample.value for sample in samples} == {"a": 3, "b": 0}
    index.forget(A.id)
    _, samples = scrape(metrics)["gateway_prefix_index_blocks"]
    assert [sample.value for sample in samples] == [0, 0]
