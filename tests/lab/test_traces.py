"""Traces come out the same from the same seed, in order, and shaped as they say."""

from collections import defaultdict
from itertools import pairwise
from random import Random

import pytest

from gateway.emulator.engine import EngineModel, EngineParams
from gateway.lab.traces import GENERATORS, TraceItem, characters, hot_character, popularity, rag


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_is_a_trace(name: str) -> None:
    make = GENERATORS[name]
    trace = make(Random(3), rate_per_s=5, duration_s=20)
    assert trace == make(Random(3), rate_per_s=5, duration_s=20)
    assert trace != make(Random(4), rate_per_s=5, duration_s=20)
    arrivals = [item.arrival_s for item in trace]
    assert arrivals == sorted(arrivals)
    assert all(0 <= at < 20 for at in arrivals)


@pytest.mark.parametrize("name", GENERATORS)
def test_blocks_fit_the_token_counts(name: str) -> None:
    for item in GENERATORS[name](Random(1), rate_per_s=5, duration_s=10):
        total = item.prompt_tokens + item.output_tokens
        assert min(item.prompt_tokens, item.output_tokens) >= 1
        assert len(item.blocks) == item.prompt_tokens // 16
        assert len(item.blocks + item.output_blocks) == total // 16
        assert len(item.index_blocks) == item.prompt_tokens // 128
        assert len(item.index_blocks + item.reply_index_blocks) == total // 128


def test_a_turn_contains_the_earlier_replies() -> None:
    """Prompt and reply of one turn are where the next one begins, in both block sizes."""
    sessions: dict[str | None, list[TraceItem]] = defaultdict(list)
    for item in characters(Random(1), rate_per_s=5, duration_s=60):
        sessions[item.session].append(item)
    pairs = [pair for turns in sessions.values() for pair in pairwise(turns)]
    assert len(pairs) > 50
    for before, after in pairs:
        chain = before.blocks + before.output_blocks
        assert after.blocks[: len(chain)] == chain
        index = before.index_blocks + before.reply_index_blocks
        assert after.index_blocks[: len(index)] == index


def test_the_rate_is_what_was_asked_and_steady() -> None:
    trace = characters(Random(7), rate_per_s=20, duration_s=100)
    assert len(trace) == pytest.approx(2000, rel=0.15)
    assert sum(item.arrival_s < 50 for item in trace) == pytest.approx(len(trace) / 2, rel=0.15)


@pytest.mark.slow
def test_one_character_is_hot_and_otherwise_it_is_zipf() -> None:
    hot = list(popularity(hot_character(Random(2), rate_per_s=20, duration_s=60)).values())
    assert hot[0] == pytest.approx(0.6, abs=0.08)
    plain = list(popularity(characters(Random(2), rate_per_s=20, duration_s=60)).values())
    assert plain[0] == pytest.approx(1 / 5.19, abs=0.06)


def test_rag_shares_documents_in_the_first_place() -> None:
    """The system prompt is everybody's, the popular first document that of some, the question nobody's."""
    trace = rag(Random(2), rate_per_s=20, duration_s=20)
    firsts = {item.blocks[17] for item in trace}
    seconds = {item.blocks[40] for item in trace}
    assert len(firsts) == 1
    assert 1 < len(seconds) < len(trace)
    assert len({item.blocks[-1] for item in trace}) > 0.9 * len(trace)


@pytest.mark.parametrize("name", GENERATORS)
def test_an_engine_serves_a_trace_from_its_cache(name: str) -> None:
    """Every item is accepted, and shared beginnings are hit."""
    model = EngineModel(EngineParams.named("8b-h100"), milestones_only=True)
    for index, item in enumerate(GENERATORS[name](Random(1), rate_per_s=5, duration_s=20)):
        model.submit(item.engine_request(str(index)), item.arrival_s)
    while (at := model.next_at()) is not None:
        model.advance(at)
    assert model.prefix_hits_tokens > 0.15 * model.prefix_queries_tokens
