"""Where a request's end is entered: metrics by kept children, the log line, the dashboard's recent figures."""

from collections.abc import Callable, Sequence

from gateway.observability.loop_series import Count
from gateway.observability.metrics import Metrics
from gateway.observability.records import RequestRecord


class Series:
    """The children that requests of one model at one replica feed."""

    def __init__(self, metrics: Metrics, model: str, replica: str, class_: str, tenant: str) -> None:
        self.ttft = metrics.ttft.labels(model, replica)
        self.itl = metrics.itl.labels(model, replica)
        self.tpot = metrics.tpot.labels(model, replica)
        self.duration = metrics.duration.labels(model, class_)
        self.queue_wait = metrics.queue_wait.labels(model, class_)
        self.prompt = metrics.tokens.labels(model, tenant, "prompt")
        self.cached = metrics.tokens.labels(model, tenant, "cached")
        self.completion = metrics.tokens.labels(model, tenant, "completion")
        self._requests = metrics.requests
        self._labels = (model, replica, class_)
        self._by_code: dict[int, Count] = {}

    def requests(self, code: int) -> Count:
        child = self._by_code.get(code)
        if child is None:
            model, replica, class_ = self._labels
            child = self._by_code[code] = self._requests.labels(model, replica, str(code), class_)
        return child


class Ledger:
    """`settle` once a request, and what can be told before its end by the other calls.

    `listeners` hear of every record: the access log, the dashboard.
    """

    def __init__(self, metrics: Metrics, listeners: Sequence[Callable[[RequestRecord], None]] = ()) -> None:
        self._metrics = metrics
        self._listeners = listeners
        self._series: dict[tuple[str, str, str, str], Series] = {}
        self._decisions: dict[tuple[str, str], Count] = {}
        self._stages = {stage: metrics.overhead.labels(stage) for stage in ("read", "route", "connect", "relay")}
        self._seen = metrics.prefix.labels("seen")
        self._expected_hit = metrics.prefix.labels("expected_hit")

    def series(self, model: str | None, replica: str | None, class_: str, tenant: str) -> Series:
        """The kept children for these labels. `model` must be one that the fleet serves, or `None`."""
        key = (model or "", replica or "", class_, tenant)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(self._metrics, *key)
        return series

    def replicas(self) -> set[str]:
        """The replicas that have series."""
        return {replica for _, replica, _, _ in self._series if replica}

    def forget(self, replica: str) -> None:
        """Drop the series of a replica that has left."""
        for key in [key for key in self._series if key[1] == replica]:
            del self._series[key]
        self._metrics.drop(replica)

    def stage(self, stage: str, seconds: float) -> None:
        self._stages[stage].observe(seconds)

    def decided(self, policy: str, reason: str) -> None:
        child = self._decisions.get((policy, reason))
        if child is None:
            child = self._decisions[policy, reason] = self._metrics.decisions.labels(policy, reason)
        child.inc()

    def prefix(self, prompt_tokens: int, work_tokens: int, least_work_tokens: int) -> None:
        """A prompt goes where it is expected to cost so much prefill; elsewhere it would have cost the least."""
        self._seen.inc(prompt_tokens)
        self._expected_hit.inc(max(0, prompt_tokens - work_tokens))
        if work_tokens > least_work_tokens:
            self._metrics.avoidable.inc(work_tokens - least_work_tokens)

    def retried(self, reason: str) -> None:
        self._metrics.retries.labels(reason).inc()

    def resumed(self, outcome: str) -> None:
        """A stream broke off: it was `resumed` elsewhere, that `failed`, or it was `impossible`."""
        self._metrics.resumes.labels(outcome).inc()

    def hedged(self, outcome: str) -> None:
        """A second replica was asked: it `won`, or it `lost`."""
        self._metrics.hedges.labels(outcome).inc()

    def settle(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        series = self.series(record.model, record.replica, record.class_, record.tenant)
        series.requests(record.status).inc()
        if record.duration_s is not None:
            series.duration.observe(record.duration_s)
        if record.queue_s is not None:
            series.queue_wait.observe(record.queue_s)
        if record.ttft_s is not None:
            series.ttft.observe(record.ttft_s)
        if record.tpot_s is not None:
            series.tpot.observe(record.tpot_s)
        if record.prompt_tokens:
            series.prompt.inc(record.prompt_tokens)
        if record.cached_tokens:
            series.cached.inc(record.cached_tokens)
        if record.completion_tokens:
            series.completion.inc(record.completion_tokens)
        if record.disconnected is not None:
            self._metrics.disconnects.labels(record.disconnected).inc()
        for listener in self._listeners:
            listener(record)
