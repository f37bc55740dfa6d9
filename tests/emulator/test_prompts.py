import json
from typing import Any

import pytest

from gateway.emulator import tokens
from gateway.emulator.prompts import ASKS, Ask, Served, answers
from gateway.emulator.refusals import Refusal
from tests.emulator.peer import chat


def ask(path: str, body: dict[str, Any], served: Served | None = None) -> Ask:
    return ASKS[path](json.dumps(body).encode(), served or Served())


def prompt(body: dict[str, Any]) -> tuple[int, ...]:
    return ask("/v1/chat/completions", body).prompts[0]


def test_equal_conversations_are_equal_prompts() -> None:
    """However the content is written: text, or parts of it; the system prompt is a shared beginning."""
    system = {"role": "system", "content": "Be brief. " * 10}
    texts = [{"messages": [system, {"role": "user", "content": text}]} for text in ("one", "two")]
    parts = {"messages": [system, {"role": "user", "content": [{"type": "text", "text": "one"}]}]}
    assert prompt(texts[0]) == prompt(parts) != prompt(texts[1])
    shared = len(tokens.encode(system["content"])) + 3
    assert prompt(texts[0])[:shared] == prompt(texts[1])[:shared]


def test_images_and_tools_are_part_of_the_prompt() -> None:
    """Equal pictures fill equal tokens; another tool list is another prompt."""

    def with_image(url: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}

    assert prompt(with_image("a")) == prompt(with_image("a")) != prompt(with_image("b"))
    assert prompt(chat("x")) != prompt(chat("x", tools=[{"function": {"name": "f"}}]))


def test_continuing_the_last_message_resumes_by_text() -> None:
    """With continue_final_message a partial answer whose ids come out equal is gone on with."""
    whole = ask("/v1/chat/completions", chat("hello", max_tokens=9, ignore_eos=True))
    answer = answers(whole)[0]
    seam = next(n for n in range(3, 9) if tokens.encode("".join(answer.pieces[:n])) == answer.ids[:n])
    partial = {"role": "assistant", "content": "".join(answer.pieces[:seam])}
    body = chat("hello", max_tokens=9 - seam, ignore_eos=True, continue_final_message=True, add_generation_prompt=False)
    body["messages"].append(partial)
    assert answers(ask("/v1/chat/completions", body))[0].ids == answer.ids[seam:]


def test_the_budget_is_cut_to_the_context() -> None:
    """Silently, as vLLM does; a prompt that fills the context is refused."""
    served = Served(max_model_len=100)
    ids = list(range(1, 91))
    assert ask("/v1/completions", {"prompt": ids, "max_tokens": 50}, served).limits.max_tokens == 10
    with pytest.raises(Refusal, match="maximum context length is 100 tokens"):
        ask("/v1/completions", {"prompt": ids + ids}, served)


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/v1/chat/completions", chat("x"), 32763),
        ("/v1/chat/completions", chat("x", max_tokens=5, max_completion_tokens=7), 7),
        ("/v1/completions", {"prompt": "x"}, 16),
        ("/v1/responses", {"input": [{"role": "user", "content": "x"}], "max_output_tokens": 9}, 9),
        ("/v1/messages", chat("x", max_tokens=11), 11),
    ],
)
def test_limits(path: str, body: dict[str, Any], limit: int) -> None:
    """Which field limits the output where, and what holds without it."""
    assert ask(path, body).limits.max_tokens == limit


def test_one_conversation_is_one_prompt_in_all_dialects() -> None:
    """So that a prefix cached through one endpoint is found through another."""
    one = prompt({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}]})
    assert ask("/v1/messages", {"system": "s", **chat("x", max_tokens=1)}).prompts[0] == one
    assert ask("/v1/responses", {"instructions": "s", "input": "x"}).prompts[0] == one
