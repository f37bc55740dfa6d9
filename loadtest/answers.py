"""What came back, and when: a streamed or whole chat answer, read to its end and measured."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


class BadAnswer(Exception):
    """An answer that did not arrive as a whole: an error event, or no [DONE], or nothing in it."""


@dataclass(slots=True)
class Answer:
    """One answer. Times are seconds of the clock that `start_s` is of; `None` is not known, never 0."""

    start_s: float
    first_s: float | None = None
    last_s: float | None = None
    gaps_s: list[float] = field(default_factory=list)
    """Between two reads that brought output; a read may bring several tokens."""
    text: str = ""
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    """Tool calls by their index: id, name, arguments."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None

    def output(self, now_s: float) -> None:
        """Something that the model made has arrived."""
        if self.last_s is None:
            self.first_s = now_s
        else:
            self.gaps_s.append(now_s - self.last_s)
        self.last_s = now_s

    def take(self, event: dict[str, Any]) -> bool:
        """Add up one event, or one whole answer; whether it had output: text, reasoning, tool calls, not the role."""
        self._count(event.get("usage") or {})
        found = False
        for choice in event.get("choices") or ():
            part = choice.get("delta") or choice.get("message") or {}
            self.text += part.get("content") or ""
            for position, call in enumerate(part.get("tool_calls") or ()):
                self._add_call(call.get("index", position), call)
            names = ("content", "reasoning_content", "reasoning", "tool_calls")
            found = found or any(part.get(name) for name in names)
        return found

    def _add_call(self, index: int, piece: dict[str, Any]) -> None:
        call = self.calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        function = piece.get("function") or {}
        call["id"] += piece.get("id") or ""
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def _count(self, usage: dict[str, Any]) -> None:
        if usage:
            self.prompt_tokens = usage.get("prompt_tokens")
            self.completion_tokens = usage.get("completion_tokens")
            self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")

    def message(self) -> dict[str, Any]:
        """The same as a message for the next request's history."""
        if not self.calls:
            return {"role": "assistant", "content": self.text}
        calls = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for _, call in sorted(self.calls.items())
        ]
        return {"role": "assistant", "content": self.text or None, "tool_calls": calls}

    def figures(self, now_s: float) -> Iterator[tuple[str, float]]:
        """(row, value) of a whole answer: TTFT, ITL and TPOT in ms, tokens/s, cached in % of the prompt.

        ITL is one gap, TPOT an answer's mean time for each token after its first. An answer that was not streamed has
        none of the three, and its speed is over its whole duration.
        """
        tokens = self.completion_tokens
        if self.first_s is not None and self.last_s is not None:
            yield "TTFT", (self.first_s - self.start_s) * 1000
            yield from (("ITL", gap_s * 1000) for gap_s in self.gaps_s)
            if tokens and tokens > 1 and self.last_s > self.first_s:
                yield "TPOT", (self.last_s - self.first_s) / (tokens - 1) * 1000
                yield "tokens/s", (tokens - 1) / (self.last_s - self.first_s)
        elif tokens:
            yield "tokens/s", tokens / (now_s - self.start_s)
        if self.prompt_tokens and self.cached_tokens is not None:
            yield "cached %", 100 * self.cached_tokens / self.prompt_tokens


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of a byte stream, however it was cut up; an unfinished last line is dropped, as SSE demands."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")


def read_stream(chunks: Iterable[bytes], answer: Answer, clock: Callable[[], float]) -> None:
    """Fill `answer`; raises `BadAnswer` on an error event, without output, or without [DONE]. Reads to the very end."""
    done = False
    for line in lines(chunks):
        if line.startswith(b"event: error"):
            raise BadAnswer("error event")
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            done = True  # and go on: a connection whose body was not read to its end is not used again
            continue
        if answer.take(decoded(data)):
            answer.output(clock())
    if not done:
        raise BadAnswer("the stream ended without [DONE]")
    if answer.first_s is None:
        raise BadAnswer("[DONE] without output")


def decoded(data: bytes) -> dict[str, Any]:
    """An event's or a whole answer's JSON object. Raises `BadAnswer`, also when it is an error."""
    try:
        event = json.loads(data)
    except ValueError as exc:
        raise BadAnswer(f"not JSON: {data[:80]!r}") from exc
    if not isinstance(event, dict) or event.get("error"):
        raise BadAnswer(f"an error: {data[:200].decode(errors='replace')}")
    return event
