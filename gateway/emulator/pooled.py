"""Endpoints that read a prompt and write no text: embeddings, pooling, classification, scores, reranking. Pure.

Each goes through the engine as a prompt with one token to generate, so it costs what its prompt costs.
"""

import struct
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec
import xxhash

from gateway.emulator import tokens
from gateway.emulator.bodies import read
from gateway.emulator.prompts import Ask, Served
from gateway.emulator.refusals import bad_value, invalid, too_long
from gateway.emulator.shapes import Json, Shape
from gateway.emulator.text import Limits

DIMENSIONS = 16
"""Length of an embedding, when `dimensions` does not say another."""


class PooledBody(msgspec.Struct):
    """All fields of all these endpoints; each requires its own."""

    model: str | None = None
    input: str | list[str | int | list[int]] | None = None
    messages: list[dict[str, Any]] | None = None
    dimensions: int | None = None
    encoding_format: str | None = None
    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None
    queries: str | list[str] | None = None
    documents: str | list[str] | None = None
    query: str | None = None
    top_n: int | None = None
    priority: int | None = 0


class Pooled(Shape):
    """`result` makes the body from the shape once the engine is through with all prompts."""

    def __init__(self, ask: Ask, ident: str, created: int, result: Callable[["Pooled"], Json]) -> None:
        super().__init__(ask, ident, created)
        self._result = result

    def whole(self) -> bytes:
        return msgspec.json.encode(self._result(self))

    def listed(self, prefix: str, data: list[Json]) -> Json:
        return {
            "id": f"{prefix}-{self.ident}",
            "object": "list",
            "created": self.created,
            "model": self.ask.model,
            "data": data,
            "usage": self.usage() | {"total_tokens": self.ask.prompt_tokens, "completion_tokens": 0},
        }


def pooled(path: str, raw: bytes, served: Served, ident: str, created: int) -> Pooled:
    """The shape that answers this body at this path."""
    body = read(raw, PooledBody)
    if path in ("/v1/embeddings", "/pooling", "/classify"):
        texts = _inputs(body)
        return Pooled(_ask(body, texts, served), ident, created, lambda shape: _vectors(path, shape, body))
    if path.endswith("rerank"):
        query, documents = _required(body.query, "query"), _several(_required(body.documents, "documents"))
        ask = _ask(body, [tokens.encode(f"{query}\n{text}") for text in documents], served)
        return Pooled(ask, ident, created, lambda shape: _ranks(shape, documents, body.top_n))
    firsts = _several(_required(body.text_1 or body.queries, "text_1"))
    seconds = _several(_required(body.text_2 or body.documents, "text_2"))
    firsts = firsts * len(seconds) if len(firsts) == 1 else firsts
    if len(firsts) != len(seconds):
        raise bad_value("Input lengths must be either 1:1, 1:N or N:N", None)
    ask = _ask(body, [tokens.encode(f"{a}\n{b}") for a, b in zip(firsts, seconds, strict=True)], served)
    return Pooled(ask, ident, created, _scores)


def _ask(body: PooledBody, prompts: list[tuple[int, ...]], served: Served) -> Ask:
    model = served.check(body.model)
    longest = max(map(len, prompts), default=0)
    if not longest:
        raise bad_value("The prompt is empty", "input")
    if longest > served.max_model_len:
        raise too_long(served.max_model_len, longest)
    return Ask(model, tuple(prompts), Limits(max_tokens=1), ignore_eos=True, priority=body.priority or 0)


def _inputs(body: PooledBody) -> list[tuple[int, ...]]:
    if body.messages is not None:
        return [tokens.encode(msgspec.json.encode(body.messages).decode())]
    given = _required(body.input, "input")
    if isinstance(given, str):
        return [tokens.encode(given)]
    if given and all(isinstance(item, int) for item in given):
        return [tuple(item for item in given if isinstance(item, int))]
    return [tokens.encode(item) if isinstance(item, str) else _ids(item) for item in given]


def _ids(item: int | list[int]) -> tuple[int, ...]:
    if isinstance(item, int):
        raise invalid("Input should be text or a list of token ids", "input")
    return tuple(item)


def _required(value: Any, name: str) -> Any:
    if value is None:
        raise invalid(f"Object missing required field `{name}`", name)
    return value


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _number(model: str, prompt: tuple[int, ...], at: int) -> float:
    """A number in [0, 1) that depends on model, prompt and place alone."""
    return xxhash.xxh3_64_intdigest(model.encode() + tokens.id_bytes(prompt), seed=at) / 2**64


def _base64(vector: list[float]) -> str:
    """Little-endian 32-bit floats, which OpenAI's SDK asks for unless told otherwise."""
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _vectors(path: str, shape: Pooled, body: PooledBody) -> Json:
    ask, size = shape.ask, body.dimensions or DIMENSIONS
    data: list[Json] = []
    for index, prompt in enumerate(ask.prompts):
        vector = [_number(ask.model, prompt, at) for at in range(2 if path == "/classify" else size)]
        if path == "/classify":
            total = sum(vector)
            probs = [value / total for value in vector]
            label = f"LABEL_{probs.index(max(probs))}"
            data.append({"index": index, "label": label, "probs": probs, "num_classes": 2})
        elif path == "/pooling":
            data.append({"index": index, "object": "pooling", "data": vector})
        else:
            embedding = _base64(vector) if body.encoding_format == "base64" else vector
            data.append({"index": index, "object": "embedding", "embedding": embedding})
    prefix = {"/classify": "classify", "/pooling": "pool"}.get(path, "embd")
    return shape.listed(prefix, data)


def _scores(shape: Pooled) -> Json:
    numbers = [_number(shape.ask.model, prompt, 0) for prompt in shape.ask.prompts]
    return shape.listed("score", [{"index": i, "object": "score", "score": n} for i, n in enumerate(numbers)])


def _ranks(shape: Pooled, documents: list[str], top_n: int | None) -> Json:
    numbers = [_number(shape.ask.model, prompt, 0) for prompt in shape.ask.prompts]
    order = sorted(range(len(numbers)), key=lambda index: -numbers[index])[: top_n or len(numbers)]
    results = [
        {"index": index, "document": {"text": documents[index], "multi_modal": None}, "relevance_score": numbers[index]}
        for index in order
    ]
    usage = {"prompt_tokens": shape.ask.prompt_tokens, "total_tokens": shape.ask.prompt_tokens}
    return {"id": f"rerank-{shape.ident}", "model": shape.ask.model, "usage": usage, "results": results}
