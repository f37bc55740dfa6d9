"""The second leg of a broken stream, told as the first one would have gone on."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.carry import Carry
from gateway.core.continuation import Continuation, closing, counted
from gateway.core.events import Usage
from tests.chunkings import chunkings
from tests.core.test_tracked import DONE, PROMPT, chat_event, relayed, role

TEXT_SAMPLE = (
    b'{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"a",'
    b'"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":[1],"token_ids":[5]}]}'
)


def carried() -> Carry:
    """Of a chat: three prompt tokens, and two of the output with the text `ab`."""
    return relayed([role(PROMPT), chat_event({"content": "a"}, [5]), chat_event({"content": "b"}, [6])])[0].carry


def leg(text: str, ids: list[int], finish: str | None = None, stop: str | None = None) -> bytes:
    """One event of /v1/completions, which tells the rest."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": stop}
    choice |= {"prompt_token_ids": None, "token_ids": ids}
    event = {"id": "cmpl-9", "object": "text_completion", "created": 99, "model": "m", "choices": [choice]}
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def usage(prompt: int, completion: int, **details: int) -> bytes:
    counts: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    counts["prompt_tokens_details"] = details or None
    event = {"id": "cmpl-9", "object": "text_completion", "created": 99, "model": "m", "choices": [], "usage": counts}
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


def resumed(pieces: list[bytes], carry: Carry | None = None, **options: Any) -> tuple[Continuation, list[Any]]:
    relay = Continuation(
        carry or carried(), **{"kept": 2, "skip": 0, "hide_usage": False, "shows_ids": False, **options}
    )
    sent = b"".join([relay.feed(piece) for piece in pieces]) + relay.finish()
    datas = [event[6:] for event in sent.split(b"\n\n") if event]
    return relay, [data if data == b"[DONE]" else json.loads(data) for data in datas]


@given(st.data())
def test_each_event_looks_like_those_before(data):
    """The first leg's id, time and shape; text, finish reason and stop reason of the second."""
    whole = leg("c", [7]) + leg("d.", [8, 9], "stop", "END") + DONE
    relay, events = resumed(data.draw(chunkings(whole)))
    first, last, done = events
    assert first == json.loads(chat_event({"content": "c"}, None)[6:])
    assert last["choices"][0] == {
        "index": 0, "delta": {"content": "d."}, "logprobs": None, "finish_reason": "stop", "stop_reason": "END",
        "token_ids": None,
    }  # fmt: skip
    assert (last["id"], last["created"], done) == ("chatcmpl-1", 1, b"[DONE]")
    assert (relay.failed, relay.ended) == (None, True)
    assert relay.carry.ids == [5, 6, 7, 8, 9]
    assert relay.carry.text == "abcd."


def test_a_completion_goes_on_as_a_completion():
    """In its own shape."""
    carry = Carry(exact=True)
    carry.sample, carry.prompt = TEXT_SAMPLE, b"[1]"
    _, events = resumed([leg("c", [7], "length"), DONE], carry)
    choice = {"index": 0, "text": "c", "logprobs": None, "finish_reason": "length", "stop_reason": None}
    assert events[0] == json.loads(TEXT_SAMPLE) | {"choices": [choice | {"prompt_token_ids": None, "token_ids": None}]}


@given(st.integers(0, 6), st.lists(st.sampled_from(["", "c", "de", "fgh"]), max_size=5))
def test_what_the_client_has_is_skipped(skip, texts):
    """Characters told before the seam are not told twice, and their tokens count all the same."""
    relay, events = resumed([*[leg(text, [7]) for text in texts], leg("", [8], "stop"), DONE], skip=skip)
    told = "".join([event["choices"][0]["delta"]["content"] for event in events[:-1]])
    assert told == "".join(texts)[skip:]
    assert relay.carry.tokens == 3 + len(texts)


def test_ids_for_a_client_that_asked():
    """In each event, also where a token has no text of its own; what was told before the seam is not told again."""
    carry = carried()
    carry.add(b"", b"7,8")
    carry.cut(2)
    _, events = resumed(
        [leg("", [7]), leg("c", [8, 9]), leg("", [10]), leg("d", [11], "stop"), DONE], carry, shows_ids=True
    )
    assert [event["choices"][0]["token_ids"] for event in events[:-1]] == [[9], [10], [11]]


@pytest.mark.parametrize("hide", [True, False])
def test_usage_counts_from_the_beginning(hide):
    """The second replica's prompt holds what the first one wrote."""
    relay, events = resumed([leg("c", [7], "stop"), usage(5, 1, cached_tokens=5), DONE], hide_usage=hide)
    assert relay.usage == Usage(3, 3, 3)
    if hide:
        assert len(events) == 2
        return
    told = events[1]
    assert (told["id"], told["created"], told["object"]) == ("chatcmpl-1", 1, "chat.completion.chunk")
    assert told["usage"] == {
        "prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6, "prompt_tokens_details": {"cached_tokens": 3}
    }  # fmt: skip


@pytest.mark.parametrize("end", [b"", leg("", [], "abort") + DONE, b'data: {"error":{"message":"no"}}\n\n' + DONE])
def test_a_second_death(end):
    """It fails as the first one did, and what came before is kept for a third."""
    relay, events = resumed([leg("c", [7]), end])
    assert relay.failed is not None
    assert len(events) == 1
    assert relay.carry.ids == [5, 6, 7]


@pytest.mark.parametrize("wants_usage", [True, False])
def test_an_end_that_nobody_told(wants_usage):
    """The usage is counted from the ids."""
    carry = carried()
    *events, done = [event[6:] for event in closing(carry, usage=wants_usage).split(b"\n\n") if event]
    assert done == b"[DONE]"
    assert counted(carry) == Usage(3, 2)
    if wants_usage:
        (event,) = map(json.loads, events)
        assert (event["id"], event["choices"]) == ("chatcmpl-1", [])
        assert event["usage"] == {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2}
    else:
        assert events == []
