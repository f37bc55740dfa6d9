"""How an answer looks on the wire: what the four dialects share, and the list of them."""

from typing import Any, ClassVar

import msgspec

from gateway.emulator.prompts import Ask, answers
from gateway.emulator.refusals import Refusal

FINGERPRINT = "vllm-0.32.0-emulated"
_encode = msgspec.json.encode
Json = dict[str, Any]


class Shape:
    """One request's answers and how far they are told. Each method returns the bytes to send next, without framing."""

    done: ClassVar[bytes] = b"data: [DONE]\n\n"
    content_type: str = "application/json"

    def __init__(self, ask: Ask, ident: str, created: int) -> None:
        self.ask = ask
        self.ident = ident
        self.created = created
        self.answers = list(answers(ask))
        self.sent = [0] * len(self.answers)
        self.cached_tokens = 0

    def opening(self) -> bytes:
        """What is sent before the engine has produced anything."""
        return b""

    def tokens(self, index: int, count: int) -> bytes:
        """One event for the next `count` tokens of a choice (0: only its end); the last has the finish reason."""
        start = self.sent[index]
        self.sent[index] = start + count
        return self.event(index, start, start + count)

    def event(self, index: int, start: int, stop: int) -> bytes:
        """One event for the tokens from `start` to `stop` of a choice; none in an answer that is never streamed."""
        return b""

    def closing(self) -> bytes:
        """What follows when all choices have ended."""
        return self.done

    def failed(self, refusal: Refusal) -> bytes:
        """How a broken engine ends a stream."""
        return b"data: " + refusal.body() + b"\n\n" + self.done

    def whole(self) -> bytes:
        """The answer to a request that did not ask for a stream; empty in a shape that is only streamed."""
        return b""

    def cut(self) -> list[int]:
        """End every choice where it stands with finish reason `abort`; returns those that had not ended."""
        open_ones = [i for i, answer in enumerate(self.answers) if self.sent[i] < len(answer.ids)]
        for index in open_ones:
            self.answers[index] = self.answers[index].cut(self.sent[index], "abort")
        return open_ones

    def text(self, index: int, start: int, stop: int) -> str:
        return "".join(self.answers[index].pieces[start:stop])

    def finish(self, index: int, stop: int) -> str | None:
        """The finish reason, once `stop` tokens are all there are."""
        answer = self.answers[index]
        if stop < len(answer.ids):
            return None
        called = self.ask.forced is not None and self.ask.forced.tool and answer.finish_reason == "stop"
        return "tool_calls" if called else answer.finish_reason

    def prompt_of(self, index: int) -> tuple[int, ...]:
        return self.ask.prompts[index // self.ask.n]

    def usage(self, *, details: bool = True) -> Json:
        """Token counts as told so far."""
        prompt, completion = self.ask.prompt_tokens, sum(self.sent)
        usage: Json = {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
        return usage | {"prompt_tokens_details": self.prompt_details()} if details else usage

    def prompt_details(self) -> Json:
        return {"cached_tokens": self.cached_tokens}


class Chunks(Shape):
    """What the streams of chat and completions share: every event is a chunk of one object."""

    kind: ClassVar[str]
    """The chunks' `object`."""
    prefix: ClassVar[str]
    """Of the answer's id."""

    def chunk(self, choices: list[Json]) -> Json:
        chunk: Json = {
            "id": f"{self.prefix}-{self.ident}",
            "object": self.kind,
            "created": self.created,
            "model": self.ask.model,
            "choices": choices,
        }
        if choices and self.ask.continuous_usage:
            chunk["usage"] = self.usage(details=False)
        return chunk

    def closing(self) -> bytes:
        if not self.ask.include_usage:
            return self.done
        return data(self.chunk([]) | {"usage": self.usage(), "system_fingerprint": FINGERPRINT}) + self.done


def data(event: Json) -> bytes:
    """One unnamed event."""
    return b"data: " + _encode(event) + b"\n\n"


def named(event: Json) -> bytes:
    """One event whose name repeats its type."""
    return b"event: " + str(event["type"]).encode() + b"\n" + data(event)
