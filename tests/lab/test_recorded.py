"""Traces from files, and what is said of a line that is none."""

import json

import pytest

from gateway.lab.recorded import recorded

FIRST = b'{"timestamp": 1500, "input_length": 1100, "output_length": 52, "hash_ids": [1, 2, 3]}\n'
SECOND = b'{"timestamp": 1000, "input_length": 600, "output_length": 0, "hash_ids": [1, 9]}\n'


def test_mooncake_lines() -> None:
    """Two requests with one id in common share its 32 engine blocks and 4 index blocks; they come in order of time."""
    (two, one), known = recorded([FIRST, b"\n", SECOND])
    assert known
    assert (one.arrival_s, one.prompt_tokens, one.output_tokens, one.session) == (1.5, 1100, 52, None)
    assert (len(one.blocks), len(one.index_blocks)) == (68, 8)
    assert one.blocks[:32] == two.blocks[:32]
    assert not set(one.blocks[32:]) & set(two.blocks[32:])
    assert one.index_blocks[:4] == two.index_blocks[:4]
    assert (two.output_tokens, two.system_prompt) == (1, one.system_prompt)


def test_ids_that_do_not_reach_the_end() -> None:
    """What no id stands for is nobody else's; a prompt of 0 tokens is one of 1."""
    lines = [b'{"timestamp": 0, "input_length": %d, "output_length": 9, "hash_ids": []}' % n for n in (0, 640, 640)]
    (none, one, two), _known = recorded(lines)
    assert (none.prompt_tokens, none.blocks) == (1, ())
    assert len(one.blocks) == 40
    assert not set(one.blocks) & set(two.blocks)


def test_the_access_log() -> None:
    """A line is written at its request's end; one without prompt or reply is left out, and nothing is shared."""
    lines = [
        {"time": 105.0, "request_id": "a", "prompt_tokens": 500, "completion_tokens": 20, "duration_s": 5.0},
        {"time": 102.0, "request_id": "b", "prompt_tokens": 500, "completion_tokens": 20},
        {"time": 103.0, "request_id": "c", "prompt_tokens": None, "completion_tokens": None, "duration_s": 1.0},
    ]
    (one, two), known = recorded([json.dumps(line).encode() for line in lines])
    assert not known
    assert (one.arrival_s, two.arrival_s, one.output_tokens) == (100.0, 102.0, 20)
    assert not set(one.blocks) & set(two.blocks)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b"\xff", "malformed"),
        (b'{"timestamp": 1, "input_length": 5, "output_length": 5}', "missing required field `hash_ids`"),
        (b'{"timestamp": null, "input_length": 5, "output_length": 5, "hash_ids": []}', r"got `null` - at `\$.timest"),
        (b'{"timestamp": 1, "input_length": -5, "output_length": 5, "hash_ids": []}', "`int` >= 0"),
        (b'{"timestamp": 1, "input_length": 1e99, "output_length": 5, "hash_ids": []}', "input_length"),
        (b'{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": ["x"]}', r"hash_ids\[0\]"),
    ],
)
def test_a_broken_line_is_named(line: bytes, wrong: str) -> None:
    """Its number, what was expected, and what is wrong with it."""
    with pytest.raises(ValueError, match=f"^line 3: expected a Mooncake request: timestamp.*{wrong}"):
        recorded([FIRST, b"\n", line])


def test_a_broken_line_of_the_log() -> None:
    good = b'{"time": 1.5, "prompt_tokens": 5, "completion_tokens": 5}'
    with pytest.raises(ValueError, match=r"^line 2: expected a line of this gateway's access log: time.*got `str`"):
        recorded([good, b'{"time": "now", "prompt_tokens": 5, "completion_tokens": 5}'])


@pytest.mark.parametrize("lines", [[], [b"\n"], [b"{}"], [b"not json"]])
def test_a_file_that_is_neither(lines: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"^line 1: expected a Mooncake request"):
        recorded(lines)
