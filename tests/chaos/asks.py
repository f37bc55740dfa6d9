"""Requests whose answers are known beforehand, of every kind that the gateway treats in a way of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from gateway.emulator.expected import Expected, expect
from tests.raw import CHAT, request

COMPLETIONS, RESPONSES, MESSAGES = "/v1/completions", "/v1/responses", "/v1/messages"
EMBEDDINGS, TOKENIZE = "/v1/embeddings", "/tokenize"
WORDS = ("river", "stone", "light", "winter", "engine", "garden", "copper", "東京", "naïve", "🚀")
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `id`: its `x-request-id`, by which its record and its answer are found again."""

    id: str
    kind: str
    path: str
    body: Body

    @property
    def raw(self) -> bytes:
        return request(self.path, self.body, f"x-request-id: {self.id}")

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def resumable(self) -> bool:
        """Whether another replica can go on with its answer."""
        return self.stream and self.kind in RESUMABLE

    @property
    def right(self) -> Expected:
        """The answer that every replica would give."""
        return expect(self.path, self.body)


def text(rng: Random) -> str:
    """A prompt that hardly comes twice."""
    return " ".join([*rng.choices(WORDS, k=rng.randint(3, 40)), str(rng.randrange(10**6))])


def length(rng: Random) -> Body:
    """An answer of some tens of tokens, or one that ends by itself."""
    return {"max_tokens": rng.randint(10, 80), "ignore_eos": rng.random() < 0.7}


def chat(rng: Random, **fields: Any) -> Body:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text(rng)}]
    return {"model": "emulated", "messages": messages, **length(rng), **fields}


def completion(rng: Random, **fields: Any) -> Body:
    prompt = text(rng) if rng.random() < 0.7 else expect(COMPLETIONS, {"prompt": text(rng), "max_tokens": 1}).prompt_ids
    return {"model": "emulated", "prompt": prompt, **length(rng), **fields}


def stopping(rng: Random, path: str, body: Body) -> Body:
    """The same with stop strings: one that comes, mostly, and one that never does."""
    told = expect(path, body).text
    start = rng.randrange(max(1, len(told)))
    stops = [told[start : start + rng.randint(1, 12)] or "~"] if rng.random() < 0.7 else []
    return body | {"stop": [*stops, "~" * rng.randint(1, 16)], "include_stop_str_in_output": rng.random() < 0.3}


USAGE: Body = {"stream": True, "stream_options": {"include_usage": True}}
STREAM: Body = {"stream": True}

KINDS: dict[str, tuple[int, str, Callable[[Random], Body]]] = {
    "chat": (12, CHAT, lambda rng: chat(rng, **STREAM)),
    "chat, usage": (10, CHAT, lambda rng: chat(rng, **USAGE)),
    "chat, stops": (10, CHAT, lambda rng: stopping(rng, CHAT, chat(rng, **USAGE))),
    "chat, ids": (3, CHAT, lambda rng: chat(rng, **STREAM, return_token_ids=True)),
    "completion": (8, COMPLETIONS, lambda rng: completion(rng, **STREAM)),
    "completion, usage": (8, COMPLETIONS, lambda rng: completion(rng, **USAGE)),
    "completion, stops": (8, COMPLETIONS, lambda rng: stopping(rng, COMPLETIONS, completion(rng, **STREAM))),
    "tools": (4, CHAT, lambda rng: chat(rng, **STREAM, tools=[TOOL], tool_choice="required")),
    "two choices": (5, CHAT, lambda rng: chat(rng, **USAGE, n=2)),
    "whole chat": (6, CHAT, chat),
    "whole completion": (4, COMPLETIONS, completion),
    "embeddings": (5, EMBEDDINGS, lambda rng: {"model": "emulated", "input": [text(rng), text(rng)]}),
    "tokenize": (4, TOKENIZE, lambda rng: {"model": "emulated", "prompt": text(rng)}),
    "messages": (7, MESSAGES, lambda rng: chat(rng, **STREAM)),
    "responses": (6, RESPONSES, lambda rng: responses(rng)),
}
"""How often, at which path, and its body."""

RESUMABLE = frozenset(kind for kind in KINDS if kind.startswith(("chat", "completion")))
LONG = "chat, usage"


def responses(rng: Random) -> Body:
    body = {"model": "emulated", "input": text(rng), **length(rng), **STREAM}
    return body | {"max_output_tokens": body.pop("max_tokens")}


def draw(rng: Random, ident: str) -> Ask:
    """Any request."""
    kind = rng.choices(list(KINDS), [weight for weight, _, _ in KINDS.values()])[0]
    _, path, body = KINDS[kind]
    return Ask(ident, kind, path, body(rng))


def long(rng: Random, ident: str) -> Ask:
    """A stream of more bytes than what lies between a replica and a client that does not read can hold."""
    return Ask(ident, LONG, CHAT, chat(rng, **USAGE) | {"max_tokens": 600, "ignore_eos": True})
