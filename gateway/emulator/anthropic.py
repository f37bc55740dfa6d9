"""/v1/messages as vLLM tells it: Anthropic's events, no [DONE]."""

import msgspec

from gateway.emulator.refusals import Refusal
from gateway.emulator.shapes import Json, Shape, named

_STOP_REASONS = {"length": "max_tokens", "stop": "end_turn", "tool_calls": "tool_use", "abort": None}


class Messages(Shape):
    """message_start with the first token, a content block of text deltas, message_stop."""

    done = b""

    def event(self, index: int, start: int, stop: int) -> bytes:
        events = b""
        if start == 0:
            usage = {"input_tokens": self.ask.prompt_tokens, "output_tokens": 0}
            events += named({"type": "message_start", "message": self._message([], None, None, usage)})
            block = {"type": "text", "text": ""}
            events += named({"type": "content_block_start", "content_block": block, "index": 0})
        if text := self.text(index, start, stop):
            delta = {"type": "text_delta", "text": text}
            events += named({"type": "content_block_delta", "delta": delta, "index": 0})
        return events

    def closing(self) -> bytes:
        reason, sequence = self._ending()
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        return (
            named({"type": "content_block_stop", "index": 0})
            + named({"type": "message_delta", "delta": delta, "usage": self._usage()})
            + named({"type": "message_stop"})
        )

    def failed(self, refusal: Refusal) -> bytes:
        error = {"type": "internal_error", "message": refusal.message}
        return named({"type": "error", "error": error})

    def whole(self) -> bytes:
        content = [{"type": "text", "text": self.answers[0].text}]
        return msgspec.json.encode(self._message(content, *self._ending(), self._usage()))

    def _ending(self) -> tuple[str | None, str | None]:
        answer = self.answers[0]
        if answer.stop_reason is not None:
            return "stop_sequence", answer.stop_reason
        return _STOP_REASONS[answer.finish_reason], None

    def _message(self, content: list[Json], reason: str | None, sequence: str | None, usage: Json) -> Json:
        return {
            "id": f"chatcmpl-{self.ident}",
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": self.ask.model,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage,
        }

    def _usage(self) -> Json:
        return {
            "input_tokens": self.ask.prompt_tokens,
            "output_tokens": sum(self.sent),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached_tokens,
        }
