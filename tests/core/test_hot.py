"""What a joining replica is sent: which prompts are kept, which are hottest, and what their bodies become."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.core import hot
from gateway.core.endpoints import RELAYED
from gateway.core.hot import HALF_LIFE_S, LOWEST_PRIORITY, MAX_BODY_BYTES, MAX_PROMPTS, HotPrompts, common
from gateway.core.request import RequestFacts, parse
from gateway.errors import BadRequest

CHAT, COMPLETION = RELAYED[b"/v1/chat/completions"], RELAYED[b"/v1/completions"]


def chat(system: str, user: str = "Hello", **fields: Any) -> RequestFacts:
    """A chat whose system prompt is this text, made long enough for some blocks."""
    body = {
        "model": "m",
        "messages": [{"role": "system", "content": system * 200}, {"role": "user", "content": user}],
        **fields,
    }
    return parse(CHAT, b"application/json", json.dumps(body).encode())


def noted(*requests: RequestFacts, step_s: float = 0.0) -> HotPrompts:
    prompts = HotPrompts()
    for number, facts in enumerate(requests):
        prompts.note(facts, number * step_s)
    return prompts


def systems(prompts: HotPrompts, now: float = 0.0, *, count: int = 16, tokens: int = 10**6) -> list[str]:
    chosen = prompts.hottest({"m"}, now, prompts=count, tokens=tokens)
    return [json.loads(prompt.body)["messages"][0]["content"][:4] for prompt in chosen]


def test_a_beginning_is_kept_when_it_comes_again() -> None:
    """What came once may never come again, and leaves nothing."""
    assert len(noted(chat("one "), chat("two "))) == 0
    assert systems(noted(chat("one "), chat("two "), chat("one ", "Goodbye"))) == ["one "]


def test_the_hottest_comes_first() -> None:
    """By what a cache would have saved: how often it came, times how much was common."""
    often = [chat("one ")] * 3 + [chat("two ")] * 6
    assert systems(noted(*often)) == ["two ", "one "]
    long = [chat("long" * 10, str(i)) for i in range(3)]
    assert systems(noted(*often, *long)) == ["long", "two ", "one "]


def test_heat_fades() -> None:
    """By half in a half-life: what is asked now overtakes what was asked then."""
    prompts = noted(*[chat("one ")] * 8)
    for _ in range(5):
        prompts.note(chat("two "), 2 * HALF_LIFE_S)
    assert systems(prompts, 2 * HALF_LIFE_S) == ["two ", "one "]


def test_the_shortest_prompt_stands_for_its_beginning() -> None:
    """A conversation that has grown long is one client's own; what is common is in the short one."""
    prompts = noted(*[chat("one ", "long " * 900)] * 2)
    (prompt,) = prompts.hottest({"m"}, 0.0, prompts=1, tokens=10**6)
    assert json.loads(prompt.body)["messages"][1]["content"] == "long " * 900
    prompts.note(chat("one ", "short"), 0.0)
    (prompt,) = prompts.hottest({"m"}, 0.0, prompts=1, tokens=10**6)
    assert json.loads(prompt.body)["messages"][1]["content"] == "short"
    assert prompts.bytes == len(prompt.body)


def test_bounds_of_a_choice() -> None:
    """So many prompts, so many tokens, and only models that the replica serves; what does not fit is passed over."""
    prompts = noted(*[chat("big " * 9)] * 9, *[chat("one ")] * 5, *[chat("two ")] * 3)
    one = chat("one ").prompt_tokens
    assert systems(prompts, count=2) == ["big ", "one "]
    assert systems(prompts, tokens=one) == ["one "]
    assert systems(prompts, tokens=2 * one) == ["one ", "two "]
    assert systems(prompts, count=0) == []
    assert prompts.hottest({"other"}, 0.0, prompts=9, tokens=10**6) == []


@pytest.mark.parametrize("body", [b'{"model":"m","input":"%b"}' % (b"x" * 2000), b'{"model":"m","input":"x"}'])
def test_what_no_cache_can_know_is_not_kept(body: bytes) -> None:
    """Embeddings, and prompts below a block."""
    facts = parse(RELAYED[b"/v1/embeddings"], b"application/json", body)
    short = parse(CHAT, b"application/json", b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
    assert len(noted(facts, facts, short, short)) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In prompts, in bytes, and in beginnings seen once; the coldest leaves first."""
    prompts = noted(*[chat("hot ")] * 9)
    for number in range(MAX_PROMPTS + 20):
        prompts.note(chat(f"{number:04}"), 0.0)
        prompts.note(chat(f"{number:04}"), 0.0)
    assert len(prompts) == MAX_PROMPTS
    assert "hot " in systems(prompts)
    monkeypatch.setattr(hot, "MAX_BYTES", 5000)
    prompts.note(chat("new "), 0.0)
    prompts.note(chat("new "), 0.0)
    assert 0 < prompts.bytes <= 5000
    assert "hot " in systems(prompts)


def test_what_came_once_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest beginning first: it is new when it comes again."""
    monkeypatch.setattr(hot, "MAX_SEEN", 3)
    prompts = noted(*[chat(f"{name}   ") for name in "abcd"], chat("a   "))
    assert len(prompts) == 0
    prompts.note(chat("d   "), 0.0)
    assert systems(prompts) == ["d   "]


def test_fewer_tokens_in_more_bytes_are_passed_over() -> None:
    """Token ids count more bytes for each token than text does; what is kept never grows."""
    text, ids = "x" * 4000, list(range(100_000, 101_100))
    long = parse(COMPLETION, b"application/json", json.dumps({"model": "m", "prompt": text}).encode())
    prompts = noted(long, long)
    before = prompts.bytes
    other = parse(COMPLETION, b"application/json", json.dumps({"model": "m", "prompt": ids}).encode())
    prompts.note(structs.replace(other, system_key=long.system_key, blocks=long.blocks, prompt_tokens=1), 0.0)
    assert prompts.bytes == before


def test_a_huge_body_is_not_kept() -> None:
    """It would be all that a warm-up sends."""
    facts = chat("x" * (MAX_BODY_BYTES // 100))
    assert len(noted(facts, facts)) == 0


@pytest.mark.parametrize("odd", [b'"\xff": 1', b'"x": ' + b"[" * 90_000 + b"]" * 90_000])
def test_a_body_that_cannot_be_read_whole_is_not_kept(odd: bytes) -> None:
    """Parsing passes over fields that it does not know; a warm-up must not fall over them later."""
    body = chat("one ").body[:-1] + b", " + odd + b"}"
    try:
        facts = parse(CHAT, b"application/json", body)
    except BadRequest:
        return
    prompts = noted(facts, facts, facts)
    assert all(json.loads(prompt.body) for prompt in prompts.hottest({"m"}, 0.0, prompts=1, tokens=10**6))


def test_what_did_no_good_is_forgotten() -> None:
    """Until it is asked for again."""
    prompts = noted(chat("one "), chat("one "), chat("two "), chat("two "))
    (first, _) = prompts.hottest({"m"}, 0.0, prompts=2, tokens=10**6)
    prompts.forget(first)
    prompts.forget(first)
    assert systems(prompts) == ["two "]
    assert prompts.bytes == sum(len(prompt.body) for prompt in prompts.hottest({"m"}, 0.0, prompts=2, tokens=10**6))


def test_nothing_of_a_prompt_is_shown() -> None:
    """Neither by the store nor by its entries."""
    prompts = noted(chat("secret "), chat("secret "))
    shown = f"{prompts!r} {prompts.hottest({'m'}, 0.0, prompts=1, tokens=10**6)}"
    assert "secret" not in shown
    assert repr(prompts) == f"<HotPrompts 1 of {prompts.bytes} bytes>"


def test_the_body_that_is_sent() -> None:
    """The same prompt for one token, whole; nothing that is about the answer, and the client's own words unchanged."""
    given = chat(
        "one ", stream=True, stream_options={"include_usage": True}, max_completion_tokens=900, n=4, logprobs=True,
        response_format={"type": "json_object"}, tools=[{"type": "function"}], cache_salt="s", seed=7,
    )  # fmt: skip
    (prompt,) = noted(given, given).hottest({"m"}, 0.0, prompts=1, tokens=10**6)
    body = json.loads(prompt.behind_all())
    assert body == {
        "model": "m", "messages": json.loads(given.body)["messages"], "tools": [{"type": "function"}],
        "cache_salt": "s", "max_tokens": 1, "stream": False, "priority": LOWEST_PRIORITY,
    }  # fmt: skip
    again = parse(CHAT, b"application/json", prompt.body)
    assert again.blocks == given.blocks
    assert b"priority" not in again.body


@pytest.mark.parametrize(
    ("path", "prompt", "limit"),
    [
        (b"/v1/completions", {"prompt": "x" * 2000}, "max_tokens"),
        (b"/v1/completions", {"prompt": list(range(500))}, "max_tokens"),
        (b"/v1/messages", {"system": "x" * 2000, "messages": [], "max_tokens": 9}, "max_tokens"),
        (b"/v1/responses", {"instructions": "x" * 2000, "input": "hi", "max_output_tokens": 9}, "max_output_tokens"),
    ],
)
def test_each_api_has_its_limit(path: bytes, prompt: dict[str, Any], limit: str) -> None:
    """And keeps its prompt: the blocks are those of the request."""
    facts = parse(RELAYED[path], b"application/json", json.dumps({"model": "m", **prompt}).encode())
    (kept,) = noted(facts, facts).hottest({"m"}, 0.0, prompts=1, tokens=10**6)
    sent = kept.behind_all()
    assert json.loads(sent)[limit] == 1
    assert parse(kept.endpoint, b"application/json", sent).blocks == facts.blocks


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_blocks_of_chains(one: list[int], other: list[int]) -> None:
    """As far as they are equal from the start; hashes are chained, so that equal ones have equal beginnings."""
    chains = [tuple(hash(tuple(steps[: i + 1])) for i in range(len(steps))) for steps in (one, other)]
    expected = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        expected += 1
    assert common(*chains) == expected
