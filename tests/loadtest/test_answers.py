"""What locust's users make of an answer: the figures of their rows."""

import json
from typing import Any

import pytest
from hypothesis import given

from loadtest.answers import Answer, BadAnswer, decoded, read_stream
from tests.chunkings import chunkings


def data(event: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(event).encode()


def delta(**fields: Any) -> bytes:
    return data({"choices": [{"index": 0, "delta": fields}]})


ROLE = delta(role="assistant", content="")
USAGE = {"prompt_tokens": 200, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 50}}
END = data({"choices": [], "usage": USAGE}) + b"data: [DONE]\n\n"
STREAM = ROLE + delta(content="Hi") + b": a comment\n\n" + delta(content=" there") + delta(reasoning="hm") + END


def read(*chunks: bytes, times: tuple[float, ...] = (1.0, 1.1, 1.5, 2.0, 3.0)) -> Answer:
    clock = iter(times)
    answer = Answer(start_s=0.75)
    read_stream(chunks, answer, lambda: next(clock))
    return answer


def test_the_figures_of_a_stream() -> None:
    """TTFT to the first output, not to the role; each gap; speed by the tokens that the usage tells."""
    figures = [(row, pytest.approx(value)) for row, value in read(STREAM).figures(9.0)]
    assert figures == [("TTFT", 250), ("ITL", 100), ("ITL", 400), ("TPOT", 125), ("tokens/s", 8), ("cached %", 25)]


def test_the_figures_of_a_whole_answer() -> None:
    """No first token is seen: speed over the whole duration, and what was cached."""
    answer = Answer(start_s=1.0)
    assert answer.take({"choices": [{"message": {"content": "Hi"}}], "usage": USAGE})
    assert list(answer.figures(3.5)) == [("tokens/s", 2.0), ("cached %", 25.0)]
    assert answer.message() == {"role": "assistant", "content": "Hi"}


def test_without_usage_there_is_no_speed() -> None:
    """Events are not tokens: unknown is no row, never a guess."""
    answer = read(delta(content="Hi"), delta(content="!"), b"data: [DONE]\n\n")
    assert [row for row, _ in answer.figures(9.0)] == ["TTFT", "ITL"]


@given(chunkings(STREAM))
def test_however_the_bytes_are_cut(chunks: list[bytes]) -> None:
    """The same text and counts."""
    answer = read(*chunks)
    assert (answer.text, answer.completion_tokens, len(answer.gaps_s)) == ("Hi there", 5, 2)


def test_a_tool_call_in_pieces() -> None:
    """Adds up to the message that the next request's history has."""
    first = {"index": 0, "id": "c1", "function": {"name": "read", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ":1}"}}
    answer = read(ROLE, delta(tool_calls=[first]), delta(tool_calls=[rest]), END)
    (call,) = answer.message()["tool_calls"]
    assert (call["id"], call["function"]) == ("c1", {"name": "read", "arguments": '{"a":1}'})
    assert answer.message()["content"] is None


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        ROLE + delta(content="Hi"),
        ROLE + END,
        delta(content="Hi") + b"data: [DONE]",
        delta(content="Hi") + data({"error": {"message": "gone"}}) + b"data: [DONE]\n\n",
        b"event: error\ndata: {}\n\n",
        b"data: {\n\n",
    ],
)
def test_a_bad_stream(stream: bytes) -> None:
    """Cut off, empty, or with an error inside: a failure, whatever the status was."""
    with pytest.raises(BadAnswer):
        read(stream)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": "no"}'])
def test_a_bad_whole_answer(body: bytes) -> None:
    """The same."""
    with pytest.raises(BadAnswer):
        decoded(body)
