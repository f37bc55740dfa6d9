"""The rest of a stream, told by another replica, as the events of the stream that the client reads."""

from typing import Any

import msgspec

from gateway.core.carry import Carry
from gateway.core.events import Usage, read_chunk
from gateway.core.relay import StreamRelay
from gateway.core.sse import data_of, encode

_Json = dict[str, Any]
_fields = msgspec.json.Decoder(_Json)
_encode = msgspec.json.encode
_OTHERS = ("choices", "usage", "prompt_token_ids", "prompt_text")
"""Members of an event that are not the same in all events of a stream."""


class Continuation(StreamRelay):
    """One leg of a resumed answer, of chat or of completion events. What it returns has the first leg's id, time and
    shape; usage counts from the beginning. It adds to the `carry`, so that the next leg can follow."""

    __slots__ = ("_before", "_choice", "_frame", "_shows_ids", "_skip", "carry")

    def __init__(self, carry: Carry, *, kept: int, skip: int, hide_usage: bool, shows_ids: bool) -> None:
        """`kept`: output tokens that were part of the request. `skip`: characters that the client has already."""
        super().__init__(read_chunk, hide_usage=hide_usage)
        self.carry = carry
        self._before = kept
        self._skip = skip
        self._shows_ids = shows_ids
        sample = _fields.decode(carry.sample)
        self._choice: _Json = sample["choices"][0]
        self._frame = {name: value for name, value in sample.items() if name not in _OTHERS}

    def feed(self, data: bytes) -> bytes:
        """The bytes to hand on to the client now; may be empty."""
        return self._study(data)

    def _look(self, event: bytes) -> bool:
        seen = self.usage
        shown = super()._look(event)
        if self.usage is not None and self.usage is not seen:
            self.usage = self._whole(self.usage)
        return shown

    def _learn(self, event: bytes) -> None:
        """Its events are all told anew."""

    def _show(self, event: bytes) -> bytes:
        data = data_of(event)
        if data is None or data == b"[DONE]":
            return event
        fields = _fields.decode(data)
        choices = fields.get("choices")
        if choices:
            return self._told(choices[0])
        if self.usage is None:
            return event
        return encode(_encode(fields | self._frame | {"choices": [], "usage": self._usage_json(fields["usage"])}))

    def _told(self, choice: _Json) -> bytes:
        """One choice of the leg as an event of the client's; nothing where it holds nothing new."""
        delta = choice.get("delta")
        text = (choice.get("text") if delta is None else delta.get("content")) or ""
        ids = choice.get("token_ids") or []
        fresh = ids[max(0, self.carry.shown - self.carry.tokens) :] if self._shows_ids else []
        finish = choice.get("finish_reason")
        skipped = min(self._skip, len(text))
        self._skip -= skipped
        text = text[skipped:]
        self.carry.add(_encode(text)[1:-1], _encode(ids)[1:-1])
        if not text and not fresh and finish is None:
            return b""
        told = self._choice | {"finish_reason": finish}
        if "delta" in told:
            told["delta"] = {"content": text}
        else:
            told["text"] = text
        if finish is not None:
            told["stop_reason"] = choice.get("stop_reason")
        if "prompt_token_ids" in told:
            told["prompt_token_ids"] = None
        told["token_ids"] = fresh if self._shows_ids else None
        return encode(_encode(self._frame | {"choices": [told]}))

    def _whole(self, usage: Usage) -> Usage:
        """The leg's prompt holds output of those before, and its completion lacks it."""
        prompt = None if usage.prompt_tokens is None else max(0, usage.prompt_tokens - self._before)
        completion = None if usage.completion_tokens is None else usage.completion_tokens + self._before
        cached = usage.cached_tokens
        return Usage(prompt, completion, cached if cached is None or prompt is None else min(cached, prompt))

    def _usage_json(self, told: _Json) -> _Json:
        assert self.usage is not None
        usage = told | {"prompt_tokens": self.usage.prompt_tokens, "completion_tokens": self.usage.completion_tokens}
        details = told.get("prompt_tokens_details")
        if isinstance(details, dict) and self.usage.cached_tokens is not None:
            usage["prompt_tokens_details"] = details | {"cached_tokens": self.usage.cached_tokens}
        return usage


def closing(carry: Carry, *, usage: bool) -> bytes:
    """The end of an answer whose finish reason was told, and whose replica died before it could close: the usage event
    if the client is to get one, and `[DONE]`. Only where the token ids are known."""
    done = encode(b"[DONE]")
    if not usage:
        return done
    counts = counted(carry)
    sample = _fields.decode(carry.sample)
    frame = {name: value for name, value in sample.items() if name not in _OTHERS}
    total = (counts.prompt_tokens or 0) + (counts.completion_tokens or 0)
    told = {
        "prompt_tokens": counts.prompt_tokens,
        "total_tokens": total,
        "completion_tokens": counts.completion_tokens,
    }
    return encode(_encode(frame | {"choices": [], "usage": told})) + done


def counted(carry: Carry) -> Usage:
    """Token counts of an answer whose ids were all told."""
    return Usage(len(carry.prompt_ids), carry.tokens)
