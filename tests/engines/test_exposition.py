"""The targeted reader says what prometheus-client's parser says, for the lines it reads, and never raises."""

from math import isnan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.engines.exposition import Sample, samples
from gateway.engines.vllm import NAMES

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.prom"))

names = st.sampled_from(["a", "ab", "a:b", "vllm:x_total", "other", "a_b"])
label_names = st.sampled_from(["l", "le", "model_name", "engine", "_x"])
label_values = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\n"\\{},= #'), max_size=12)
values = st.floats() | st.integers(-(10**6), 10**9).map(float)
blanks = st.sampled_from(["", " "])


@st.composite
def lines(draw: st.DrawFn) -> str:
    """One sample, as any exporter may write it."""
    labels = draw(st.dictionaries(label_names, label_values, max_size=3))
    gap = draw(blanks)
    pairs = f",{gap}".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    comma = draw(st.sampled_from(["", ","])) if labels else ""
    braces = f"{{{pairs}{comma}}}" if labels or draw(st.booleans()) else ""
    stamp = draw(st.sampled_from(["", " 1700000000123", " -5"]))
    return f"{draw(names)}{braces} {draw(values)!r}{stamp}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def theirs(page: str, wanted: set[str]) -> list[Sample]:
    return [
        Sample(sample.name, sample.labels, sample.value, None if sample.timestamp is None else float(sample.timestamp))
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name in wanted
    ]


def same(ours: list[Sample], expected: list[Sample]) -> bool:
    def key(sample: Sample) -> tuple[object, ...]:
        value = "nan" if isnan(sample.value) else repr(sample.value)
        return (sample.name, tuple(sorted(sample.labels.items())), value, sample.at)

    return sorted(map(repr, map(key, ours))) == sorted(map(repr, map(key, expected)))


@given(st.lists(lines(), max_size=8), st.sets(names, min_size=1))
def test_it_agrees_with_the_whole_parser(page: list[str], wanted: set[str]) -> None:
    """Labels with every escape, times, any float, blanks where the format allows them."""
    text = "".join(f"{line}\n" for line in page)
    assert same(list(samples(text.encode(), wanted)), theirs(text, wanted))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_it_agrees_on_real_pages(golden: Path) -> None:
    """Pages as engines write them."""
    text = golden.read_text("utf-8")
    assert same(list(samples(text.encode(), NAMES)), theirs(text, set(NAMES)))


@given(st.binary() | st.from_regex(rb'(a(\{[a-z="\\ ,]*\}?)? ?[0-9.e_-]*\n?)*'), st.sets(names, min_size=1))
def test_nothing_makes_it_raise(page: bytes, wanted: set[str]) -> None:
    """It is fed by the network."""
    assert {sample.name for sample in samples(page, wanted)} <= wanted


def test_a_broken_line_is_a_sample_that_is_not_known() -> None:
    """It is not passed over: the figure it was to give would otherwise be what the other lines say."""
    first, second, third = samples(b'a{l="1} 5\na 1 2 3\na 7', {"a"})
    assert all(isnan(sample.value) and not sample.labels for sample in (first, second, third))


def test_a_brace_inside_a_value_is_text() -> None:
    """Labels may hold anything, escaped or not."""
    (sample,) = samples(b'a{l="{x}\\\\ \\" \\n, y=\\"z\\""} 5\r\n', {"a"})
    assert sample == Sample("a", {"l": '{x}\\ " \n, y="z"'}, 5.0)
