"""Counters and histograms for the hot path: the same series as prometheus-client's, without its locks.

Everything runs on one event loop, so that a count needs no lock; it then takes a fifth of the library's time.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_Child = TypeVar("_Child")


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount


class LoopCounter(Collector):
    """A labelled counter whose children belong to one event loop; scrapes read it from the same loop."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._name = name
        self._text = text
        self._label_names = labels
        self._children: dict[tuple[str, ...], Count] = {}
        if not labels:
            self.labels()  # a series without labels is there from the beginning, at 0

    def labels(self, *values: str) -> Count:
        """The child for these label values, made at the first call."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Count()
        return child

    def drop(self, label: str, value: str) -> None:
        """Forget the series whose label has this value."""
        _drop(self._children, self._label_names.index(label), value)

    def describe(self) -> Iterable[Metric]:
        return [CounterMetricFamily(self._name, self._text, labels=self._label_names)]

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._label_names)
        for values, child in self._children.items():
            family.add_metric(values, child.value)
        return [family]


class Observations:
    """One series of the histogram. `counts[i]`: observations at most `bounds[i]`, and above the bound before it."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class LoopHistogram(Collector):
    """A labelled histogram whose children belong to one event loop; scrapes read it from the same loop."""

    def __init__(self, name: str, text: str, labels: Sequence[str], *, buckets: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._label_names = labels
        self._bounds = tuple(map(float, buckets))
        self._children: dict[tuple[str, ...], Observations] = {}

    def labels(self, *values: str) -> Observations:
        """The child for these label values, made at the first call."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Observations(self._bounds)
        return child

    def drop(self, label: str, value: str) -> None:
        """Forget the series whose label has this value."""
        _drop(self._children, self._label_names.index(label), value)

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._text, labels=self._label_names)]

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._label_names)
        for values, child in self._children.items():
            total = 0
            buckets = []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), child.counts, strict=True):
                total += count
                buckets.append((bound, float(total)))
            family.add_metric(values, buckets, child.sum)
        return [family]


def _drop(children: dict[tuple[str, ...], _Child], place: int, value: str) -> None:
    for values in [values for values in children if values[place] == value]:
        del children[values]
