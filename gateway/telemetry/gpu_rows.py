"""Samples of a GPU exporter, gathered by GPU: each figure is a number that it can be, or `None`. Pure."""

from collections.abc import Callable, Iterable, Mapping
from math import nan

from gateway.engines.exposition import Sample
from gateway.engines.page import MAX_SAMPLE_AGE_S, MOST


class Row:
    """What a page tells of one GPU. One that is cut up (MIG) is told once for each instance."""

    def __init__(self) -> None:
        self.labels: list[Mapping[str, str]] = []
        self._series: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}

    def add(self, sample: Sample) -> None:
        series = self._series.setdefault(sample.name, {})
        key = tuple(sorted(sample.labels.items()))
        series[key] = nan if key in series else sample.value  # told twice: which of both is right?
        self.labels.append(sample.labels)

    def most(self, *names: str) -> float | None:
        """The largest value of the first of these series that is there: the hottest, the busiest instance."""
        return max(self._values(names), default=None)

    def least(self, *names: str) -> float | None:
        return min(self._values(names), default=None)

    def mask(self, *names: str) -> int | None:
        """The bits that any instance has set."""
        values = self._values(names)
        if not values:
            return None
        bits = 0
        for value in values:
            bits |= int(value)
        return bits

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """The largest value of a series for each value of one of its labels."""
        found: dict[str, float] = {}
        for labels, value in self._series.get(name, {}).items():
            if 0 <= value <= MOST and (text := dict(labels).get(label)) is not None:
                found[text] = max(value, found.get(text, 0.0))
        return found

    def label(self, *names: str) -> str | None:
        """The first of these labels that is there and says anything."""
        for name in names:
            for labels in self.labels:
                if labels.get(name):
                    return labels[name]
        return None

    def _values(self, names: Iterable[str]) -> list[float]:
        for name in names:
            if name in self._series:
                values = list(self._series[name].values())
                return values if all(0 <= value <= MOST for value in values) else []
        return []


def rows(samples: Iterable[Sample], key: Callable[[Mapping[str, str]], str | None], wall: float) -> list[Row]:
    """One row for each GPU that `key` tells apart by labels; lines without a key, or of another hour, are left out."""
    found: dict[str, Row] = {}
    for sample in samples:
        if sample.at is not None and abs(wall - sample.at) > MAX_SAMPLE_AGE_S:
            continue
        name = key(sample.labels)
        if name:
            found.setdefault(name, Row()).add(sample)
    return list(found.values())


def hosts(row: Row, configured: str | None) -> frozenset[str]:
    """Names of the machine: the config's, or else all that the labels give it."""
    if configured is not None:
        return frozenset({configured})
    names = {row.label("Hostname", "hostname"), row.label("node", "kubernetes_node")}
    names.add((row.label("instance") or "").rpartition(":")[0])
    return frozenset(name for name in names if name)


def pods(row: Row) -> frozenset[str]:
    """`namespace/name` of the pods that have it. Prometheus renames labels that clash with those of its own target."""
    found = set()
    for labels in row.labels:
        pod = labels.get("exported_pod") or labels.get("pod")
        space = labels.get("exported_namespace") or labels.get("namespace")
        if pod and space:
            found.add(f"{space}/{pod}")
    return frozenset(found)


def index(text: str | float | None) -> int | None:
    """A GPU's number on its machine."""
    try:
        number = int(text if text is not None else -1)
    except ValueError:
        return None
    return number if 0 <= number < 1 << 16 else None
