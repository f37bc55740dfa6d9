"""Prometheus' text format, read for a few series only: a replica's whole page costs ten times as much to parse.

Source: prometheus.io/docs/instrumenting/exposition_formats; a test compares it with prometheus-client's own parser.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import nan
from types import MappingProxyType

_LINE = re.compile(
    rb"([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*"
    rb'(?:\{((?:[^"{}]|"(?:[^"\\]|\\.)*+")*+)\})?'
    rb"[ \t]*(\S+)(?:[ \t]+(-?[0-9]+))?[ \t]*"
)
_LABEL = re.compile(rb'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*+)"[ \t]*(?:,|$)')
_ESCAPE = re.compile(r"\\(.)")
_NAME = re.compile(rb"[a-zA-Z0-9_:]*")
_NO_LABELS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sample:
    """One line. `at`: the time that the line itself names, in seconds of the epoch; most lines name none."""

    name: str
    labels: Mapping[str, str]
    value: float
    at: float | None = None


def samples(page: bytes, names: Iterable[str]) -> Iterator[Sample]:
    """The samples of these series, in the page's order.

    A line that begins with one of the names and cannot be read is a sample without labels whose value is not a number:
    what it was to say is not known. So is a last line without its line feed, which may have been cut.
    """
    wanted = frozenset(name.encode() for name in names)
    starts = tuple(wanted)
    lines = page.split(b"\n")
    cut = lines.pop()
    for line in [line for line in lines if line.startswith(starts)]:
        yield from _sample(line, wanted)
    if cut.startswith(starts) and (name := _name_of(cut)) in wanted:
        yield Sample(name.decode(), _NO_LABELS, nan)


def _sample(line: bytes, wanted: frozenset[bytes]) -> Iterator[Sample]:
    name = _name_of(line)
    if name not in wanted:
        return
    found = _LINE.fullmatch(line.rstrip(b"\r"))
    labels = _labels(found[2] or b"") if found else None
    if found is None or labels is None:
        yield Sample(name.decode(), _NO_LABELS, nan)
        return
    at = None if found[4] is None else int(found[4]) / 1000
    yield Sample(name.decode(), labels, number(found[3].decode("utf-8", "replace")), at)


def _name_of(line: bytes) -> bytes:
    found = _NAME.match(line)
    return found[0] if found else b""


def number(text: str) -> float:
    """A value as the format writes it; not a number for what is none."""
    try:
        return nan if "_" in text else float(text)  # Python alone allows 1_000
    except ValueError:
        return nan


@lru_cache(maxsize=4096)  # a source writes the same labels at each look: those of a few hundred GPUs or replicas
def _labels(text: bytes) -> Mapping[str, str] | None:
    """The labels between the braces; `None` if they are not written as labels, or one stands twice."""
    labels: dict[str, str] = {}
    place = 0
    while place < len(text):
        found = _LABEL.match(text, place)
        if found is None:
            return None if text[place:].strip() else MappingProxyType(labels)
        name, value = found[1].decode(), found[2].decode("utf-8", "replace")
        if name in labels:
            return None
        labels[name] = _unescaped(value) if "\\" in value else value
        place = found.end()
    return MappingProxyType(labels)


def _unescaped(value: str) -> str:
    return _ESCAPE.sub(lambda found: {"n": "\n", '"': '"', "\\": "\\"}.get(found[1], found[0]), value)
