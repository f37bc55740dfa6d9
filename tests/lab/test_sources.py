"""A trace by its name, at any rate."""

from pathlib import Path

import pytest

from gateway.lab.sources import LOG_NOTE, source
from gateway.lab.traces import GENERATORS


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_makes_what_is_asked_for(name: str) -> None:
    made = source(name)
    assert (made.name, made.rate_per_s, made.note) == (name, None, "")
    items = made.trace(10.0, 5.0, 1)
    assert items == made.trace(10.0, 5.0, 1) != made.trace(10.0, 5.0, 2)
    assert all(0 <= item.arrival_s < 5 for item in items)


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def mooncake(at: int) -> str:
    return f'{{"timestamp": {at}, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}}'


def test_a_recording_begins_at_0_and_is_stretched(tmp_path: Path) -> None:
    """Three requests in two seconds; at half the rate they take four."""
    made = source(write(tmp_path / "conversation.jsonl", *map(mooncake, (5000, 6000, 7000))))
    assert (made.name, made.rate_per_s, made.note) == ("conversation.jsonl", 1.5, "")
    assert [item.arrival_s for item in made.trace(1.5, 60.0, 1)] == [0.0, 1.0, 2.0]
    assert [item.arrival_s for item in made.trace(0.75, 3.0, 1)] == [0.0, 2.0]


def test_a_recording_of_one_request(tmp_path: Path) -> None:
    made = source(write(tmp_path / "one.jsonl", mooncake(5000)))
    assert [item.arrival_s for item in made.trace(7.0, 60.0, 1)] == [0.0]


def test_an_access_log_says_what_it_cannot_show(tmp_path: Path) -> None:
    line = '{"time": 7.5, "prompt_tokens": 60, "completion_tokens": 5, "duration_s": 0.5}'
    assert source(write(tmp_path / "log.jsonl", line)).note == LOG_NOTE


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{}"], r"log\.jsonl: line 1: expected a Mooncake request"),
        (['{"time": 7.5, "prompt_tokens": 60, "completion_tokens": null}'], "no request in it has both"),
    ],
)
def test_a_file_that_is_no_trace(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        source(write(tmp_path / "log.jsonl", *lines))


def test_an_unknown_name_lists_those_that_exist(tmp_path: Path) -> None:
    for name in ("nope", str(tmp_path)):
        with pytest.raises(ValueError, match="the generators are characters, hot_character, rag, chat, agents"):
            source(name)


def test_a_population_of_another_size() -> None:
    """Only where there is one."""
    prompts = [
        len({item.system_prompt for item in source("characters", population).trace(20, 30, 1)})
        for population in (5, None, 3000)
    ]
    assert prompts[0] == 5
    assert prompts[0] < prompts[1] < prompts[2]
    for name, population in (("rag", 5), ("characters", 1)):
        with pytest.raises(ValueError, match="expected at least 2, of characters or hot_character"):
            source(name, population)
