"""The metrics of several processes as one page: what they count adds up; what they read of others is the first's."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

READINGS = ("gateway_replica_", "gateway_gpu_", "gateway_telemetry_age_", "gateway_prefix_index_")
"""Series that every process has of the same thing: a sum of them would say nothing."""


class Sums:
    """Remembers what ended processes have counted, or their end would look like a restart of every counter."""

    def __init__(self) -> None:
        self._past: list[Metric] = []

    def keep(self, page: bytes) -> None:
        """A process has ended; this was its last page."""
        counted = [family for family in _read(page) if family.type != "gauge" and not _is_reading(family)]
        self._past = _added((self._past, counted))

    def render(self, pages: Iterable[bytes]) -> bytes:
        """One page of these processes' pages, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(_Fixed(_added((*map(_read, pages), self._past))))
        return generate_latest(registry)


class _Fixed(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _read(page: bytes) -> list[Metric]:
    return list(text_string_to_metric_families(page.decode()))


def _is_reading(family: Metric) -> bool:
    return family.name.startswith(READINGS)


def _added(groups: Sequence[Iterable[Metric]]) -> list[Metric]:
    """Each family once, with its samples by name and labels, in the order of their first appearance."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in (family for group in groups for family in group):
        families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        known = values.setdefault(family.name, {})
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            if _is_reading(family):
                known.setdefault(key, sample.value)
            else:
                known[key] = known.get(key, 0.0) + sample.value
    for name, family in families.items():
        for (sample_name, labels), value in values[name].items():
            family.add_sample(sample_name, dict(labels), value)
    return list(families.values())
