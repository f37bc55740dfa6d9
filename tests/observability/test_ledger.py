import pytest
from prometheus_client import CollectorRegistry

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.types import FleetSnapshot
from gateway.observability.ledger import Ledger
from gateway.observability.metrics import Metrics
from gateway.observability.records import RequestRecord


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def heard() -> list[RequestRecord]:
    return []


@pytest.fixture
def ledger(registry: CollectorRegistry, heard: list[RequestRecord]) -> Ledger:
    return Ledger(Metrics(registry, Board(FleetSnapshot()), Books(), PrefixIndex()), [heard.append])


def record(**fields: object) -> RequestRecord:
    return RequestRecord(**{"time": 1.0, "request_id": "x", "model": "m", "replica": "a", "status": 200, **fields})


REQUESTS = {"model": "m", "replica": "a", "code": "200", "class": "standard"}
TOKENS = {"model": "m", "tenant": "default"}


def test_a_request_is_counted_by_what_it_was(ledger, registry, heard):
    """Each end adds one to its own series, and every listener hears of it."""
    ends = [record(), record(), record(status=502), record(class_="batch")]
    for end in ends:
        ledger.settle(end)
    assert registry.get_sample_value("gateway_requests_total", REQUESTS) == 2
    assert registry.get_sample_value("gateway_requests_total", {**REQUESTS, "code": "502"}) == 1
    assert registry.get_sample_value("gateway_requests_total", {**REQUESTS, "class": "batch"}) == 1
    assert heard == ends


def test_an_unknown_model_is_the_empty_label(ledger, registry):
    """A request that no replica was asked for has empty labels: what a client makes up never becomes a series."""
    ledger.settle(record(model=None, replica=None, status=404))
    series = {"model": "", "replica": "", "code": "404", "class": "standard"}
    assert registry.get_sample_value("gateway_requests_total", series) == 1


def test_durations_are_observed_where_they_exist(ledger, registry):
    """Every figure of the record lands in its histogram, a time of zero included."""
    ledger.settle(record(ttft_s=0.25, tpot_s=0.02, duration_s=1.5, queue_s=0.0))
    by_replica, by_class = {"model": "m", "replica": "a"}, {"model": "m", "class": "standard"}
    assert registry.get_sample_value("gateway_time_to_first_token_seconds_sum", by_replica) == 0.25
    assert registry.get_sample_value("gateway_time_per_output_token_seconds_sum", by_replica) == 0.02
    assert registry.get_sample_value("gateway_request_duration_seconds_sum", by_class) == 1.5
    assert registry.get_sample_value("gateway_queue_wait_seconds_count", by_class) == 1


def test_what_is_not_known_is_not_observed(ledger, registry):
    """A record without figures adds none: unknown is not 0."""
    ledger.settle(record())
    by_replica = {"model": "m", "replica": "a"}
    assert registry.get_sample_value("gateway_time_to_first_token_seconds_count", by_replica) == 0
    assert registry.get_sample_value("gateway_request_duration_seconds_count", {"model": "m", "class": "standard"}) == 0
    assert registry.get_sample_value("gateway_tokens_total", {**TOKENS, "kind": "prompt"}) == 0


def test_tokens_are_counted_by_kind(ledger, registry):
    """Prompt, cached and completion tokens add up in series of their own."""
    for _ in range(2):
        ledger.settle(record(prompt_tokens=10, cached_tokens=4, completion_tokens=3))
    counted = {
        kind: registry.get_sample_value("gateway_tokens_total", {**TOKENS, "kind": kind})
        for kind in ("prompt", "cached", "completion")
    }
    assert counted == {"prompt": 20, "cached": 8, "completion": 6}


@pytest.mark.parametrize("phase", ["queued", "before_first_token", "streaming"])
def test_a_client_that_left_is_counted_by_phase(ledger, registry, phase):
    """How far a request had come when its client left is told."""
    ledger.settle(record(status=499, disconnected=phase))
    assert registry.get_sample_value("gateway_client_disconnects_total", {"phase": phase}) == 1


def test_what_is_told_before_the_end(ledger, registry):
    """Decisions, retries and stages are counted when they happen."""
    ledger.decided("prefix", "load")
    ledger.decided("prefix", "load")
    ledger.retried("timeout")
    ledger.stage("route", 0.00005)
    decision = {"policy": "prefix", "reason": "load"}
    assert registry.get_sample_value("gateway_routing_decisions_total", decision) == 2
    assert registry.get_sample_value("gateway_retries_total", {"reason": "timeout"}) == 1
    assert registry.get_sample_value("gateway_overhead_seconds_sum", {"stage": "route"}) == 0.00005


def test_children_are_kept(ledger):
    """The same labels give the same series, other ones another."""
    series = ledger.series("m", "a", "standard", "default")
    assert ledger.series("m", "a", "standard", "default") is series
    assert ledger.series("m", "b", "standard", "default") is not series
    assert ledger.series(None, None, "standard", "default") is ledger.series("", "", "standard", "default")
    assert series.requests(200) is series.requests(200)
