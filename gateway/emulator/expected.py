"""What a replica will answer, for tests: computed by the same pure functions, without a socket or an engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.emulator.prompts import ASKS, Served, answers
from gateway.emulator.text import Answer


@dataclass(frozen=True, slots=True)
class Expected:
    """`answers`: one for each choice. The shortcuts below are the first one's."""

    prompt_ids: tuple[int, ...]
    answers: tuple[Answer, ...]

    @property
    def text(self) -> str:
        return self.answers[0].text

    @property
    def ids(self) -> tuple[int, ...]:
        return self.answers[0].ids

    @property
    def finish_reason(self) -> str:
        return self.answers[0].finish_reason


def expect(path: str, body: Mapping[str, Any] | bytes, *, served: Served | None = None) -> Expected:
    """The answer to this body at this path, on any replica at any time; raises the Refusal that would be sent."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    ask = ASKS[path](raw, served or Served())
    return Expected(ask.prompts[0], answers(ask))


def expected_text(prompt: str, max_tokens: int = 128, *, path: str = "/v1/chat/completions", **fields: object) -> str:
    """The text for one user message (or, at /v1/completions, one prompt)."""
    body: dict[str, Any] = {"max_tokens": max_tokens, **fields}
    body |= {"prompt": prompt} if path == "/v1/completions" else {"messages": [{"role": "user", "content": prompt}]}
    return expect(path, body).text
