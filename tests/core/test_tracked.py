"""A relay that remembers: token ids are taken out of what the client gets, and kept."""

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import read_chunk
from gateway.core.tracked import TrackedRelay
from tests.chunkings import chunkings

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
TOKENS = st.lists(st.tuples(TEXTS, st.lists(st.integers(0, 150_000), min_size=1, max_size=3)), min_size=1, max_size=10)
DONE = b"data: [DONE]\n\n"
PROMPT = [1, 22, 333]


def chat_event(delta: dict[str, object], ids: object, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    if ids != "absent":
        choice["token_ids"] = ids
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + msgspec.json.encode(event | more) + b"\n\n"


def role(ids: list[int] | None) -> bytes:
    return chat_event({"role": "assistant", "content": ""}, "absent", prompt_token_ids=ids, prompt_text=None)


def stream(tokens: list[tuple[str, list[int]]], *, ids: bool) -> bytes:
    told = [chat_event({"content": text}, token_ids if ids else None) for text, token_ids in tokens]
    return b"".join([role(PROMPT if ids else None), *told, chat_event({"content": ""}, None, "stop"), DONE])


def relayed(pieces: list[bytes], **options: bool) -> tuple[TrackedRelay, bytes]:
    relay = TrackedRelay(read_chunk, hide_usage=True, **{"wants_ids": True, **options})
    sent = b"".join([relay.feed(piece) for piece in pieces])
    return relay, sent + relay.finish()


@given(TOKENS, st.data())
def test_the_client_sees_what_it_would_have_seen(tokens, data):
    """With ids asked for, the bytes that go on are those of a stream without, however they come in."""
    relay, sent = relayed(data.draw(chunkings(stream(tokens, ids=True))))
    assert sent == stream(tokens, ids=False)
    assert relay.failed is None


@given(TOKENS, st.data())
def test_what_is_kept(tokens, data):
    """The prompt's ids, each token's id, and the text."""
    carry = relayed(data.draw(chunkings(stream(tokens, ids=True))))[0].carry
    assert carry.ready
    assert carry.prompt_ids == PROMPT
    assert carry.ids == [token for _, ids in tokens for token in ids]
    assert carry.text == "".join([text for text, _ in tokens])
    assert json.loads(carry.sample)["id"] == "chatcmpl-1"


@given(TOKENS, st.data())
def test_a_client_that_asked_for_ids_gets_them(tokens, data):
    """Byte for byte."""
    whole = stream(tokens, ids=True)
    relay, sent = relayed(data.draw(chunkings(whole)), shows_ids=True)
    assert sent == whole
    assert relay.carry.ids == [token for _, ids in tokens for token in ids]


@given(TOKENS, st.data())
def test_by_text(tokens, data):
    """Where no ids were asked for, the text alone is kept."""
    whole = stream(tokens, ids=False)
    relay, sent = relayed(data.draw(chunkings(whole)), wants_ids=False)
    assert sent == whole
    assert relay.carry.ready
    assert relay.carry.text == "".join([text for text, _ in tokens])


@given(TEXTS.filter(bool), st.lists(st.integers(0, 9), max_size=2))
def test_text_that_looks_like_ids_stays(text, ids):
    """Only the member is taken out, never what a model wrote."""
    tricky = f'{text}"token_ids":[1,2],\\"token_ids\\":{ids}'
    _, sent = relayed([role(PROMPT), chat_event({"content": tricky}, [7]) * 2, DONE])
    events = [json.loads(event[6:]) for event in sent.split(b"\n\n") if event.startswith(b"data: {")]
    assert [event["choices"][0]["delta"]["content"] for event in events] == ["", tricky, tricky]


def test_what_is_more_than_text_is_lost():
    """Reasoning, tool calls, text without ids, a second choice: another replica could not go on rightly."""
    for odd in (
        chat_event({"reasoning": "hm"}, None),
        chat_event({"reasoning_content": "hm"}, [1]),
        chat_event({"tool_calls": [{"index": 0}]}, [1]),
        chat_event({"refusal": "no"}, [1]),
        chat_event({"content": "a"}, None),
        chat_event({"content": "a"}, "absent"),
        chat_event({"content": "a"}, [1]).replace(b'"choices":[', b'"choices":[{"index":1},'),
    ):
        relay, _ = relayed([role(PROMPT), chat_event({"content": "a"}, [1]), odd])
        assert not relay.carry.ready, odd
    assert not relayed([role(None), chat_event({"content": "a"}, [1])])[0].carry.ready


def test_an_abort_adds_nothing():
    """The empty event of a replica that was stopped is no part of the answer."""
    relay, sent = relayed([role(PROMPT), chat_event({"content": "a"}, [1]), chat_event({"content": ""}, [], "abort")])
    assert relay.carry.ids == [1]
    assert sent == role(None) + chat_event({"content": "a"}, None)
    assert relay.failed is not None


def test_several_tokens_in_one_event_may_end_in_half_a_character():
    """Where the last event with text had one token, the cut needs no search."""
    assert not relayed([role(PROMPT), chat_event({"content": "a"}, [1])])[0].carry.merged
    assert relayed([role(PROMPT), chat_event({"content": "ab"}, [1, 2])])[0].carry.merged
