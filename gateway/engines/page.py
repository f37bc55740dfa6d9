"""A page of metrics, asked for figures: each is a number that it can be, or `None`."""

from collections.abc import Iterable, Mapping
from math import nan

from gateway.engines.exposition import Sample

MAX_SAMPLE_AGE_S = 60.0
"""A line that names its own time, and one further from now than this, says nothing of now; clocks differ by less."""

MOST = 1e18
"""Above it no figure is believed: bytes since the machine was started, in a year of 30 GB/s."""


class Page:
    """The wanted samples, by name. A series that stands twice, with the same labels, has no value that can be known."""

    def __init__(self, samples: Iterable[Sample], wall: float) -> None:
        self._series: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        self._labels: dict[str, list[Mapping[str, str]]] = {}
        for sample in samples:
            if sample.at is not None and abs(wall - sample.at) > MAX_SAMPLE_AGE_S:
                continue
            series = self._series.setdefault(sample.name, {})
            key = tuple(sorted(sample.labels.items()))
            series[key] = nan if key in series else sample.value
            self._labels.setdefault(sample.name, []).append(sample.labels)

    def total(self, *names: str, **where: str) -> float | None:
        """The sum over all series of the first of these names that is there; `where` picks series by label.

        A series that lacks a label of `where` is picked, too: older engines have fewer.
        """
        values = self._values(names, where)
        return sum(values) if values else None

    def mean(self, *names: str, **where: str) -> float | None:
        """The same, as the mean."""
        values = self._values(names, where)
        return sum(values) / len(values) if values else None

    def count(self, *names: str, **where: str) -> int | None:
        """`total` as a whole number."""
        total = self.total(*names, **where)
        return None if total is None else int(total)

    def infos(self, name: str) -> list[Mapping[str, str]]:
        """The labels of each series of this name."""
        return self._labels.get(name, [])

    def has(self, prefix: str) -> bool:
        """Whether there is any series whose name begins so."""
        return any(name.startswith(prefix) for name in self._series)

    def _values(self, names: tuple[str, ...], where: Mapping[str, str]) -> list[float]:
        """Values of the first name that is there; none at all if one of them cannot be a count or share of anything."""
        for name in names:
            if name not in self._series:
                continue
            picked = [
                value
                for labels, value in self._series[name].items()
                if all(dict(labels).get(label, text) == text for label, text in where.items())
            ]
            return picked if all(0 <= value <= MOST for value in picked) else []
        return []


def ratio(value: float | None) -> float | None:
    """A share from 0 to 1; `None` for anything that is none."""
    return value if value is not None and value <= 1 else None
