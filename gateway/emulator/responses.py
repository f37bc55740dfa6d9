"""/v1/responses as vLLM tells it: numbered and named events, no [DONE]; always ends with response.completed."""

import msgspec
import xxhash

from gateway.emulator.prompts import Ask
from gateway.emulator.refusals import Refusal
from gateway.emulator.shapes import Json, Shape, named


class Responses(Shape):
    """Its ids ignore the request id of the client; they are derived from it all the same, to be repeatable."""

    done = b""

    def __init__(self, ask: Ask, ident: str, created: int) -> None:
        super().__init__(ask, ident, created)
        digest = xxhash.xxh3_64_hexdigest(ident.encode())
        self._response_id, self._item_id = f"resp_{digest}", f"msg_{digest}"
        self._sequence = 0

    def opening(self) -> bytes:
        response = self._response("in_progress", [], None)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def event(self, index: int, start: int, stop: int) -> bytes:
        events = b""
        if start == 0:
            item = self._item("in_progress", [])
            events += self._event("response.output_item.added", item=item, output_index=0)
            part = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
            events += self._event("response.content_part.added", **self._place(), part=part)
        if text := self.text(index, start, stop):
            events += self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])
        return events

    def closing(self) -> bytes:
        text, status = self.answers[0].text, self._status()
        return b"".join(
            (
                self._event("response.output_text.done", **self._place(), logprobs=[], text=text),
                self._event("response.content_part.done", **self._place(), part=self._part()),
                self._event("response.output_item.done", item=self._item("completed", [self._part()]), output_index=0),
                self._event("response.completed", response=self._finished(status)),
            )
        )

    def failed(self, refusal: Refusal) -> bytes:
        """vLLM cuts it without a word."""
        return b""

    def whole(self) -> bytes:
        return msgspec.json.encode(self._finished(self._status()))

    def _event(self, kind: str, **fields: object) -> bytes:
        event = named(dict(sorted((fields | {"sequence_number": self._sequence, "type": kind}).items())))
        self._sequence += 1
        return event

    def _status(self) -> str:
        return "incomplete" if self.answers[0].finish_reason == "length" else "completed"

    def _place(self) -> Json:
        return {"content_index": 0, "item_id": self._item_id, "output_index": 0}

    def _part(self) -> Json:
        return {"annotations": [], "text": self.answers[0].text, "type": "output_text", "logprobs": None}

    def _item(self, status: str, content: list[Json]) -> Json:
        fields: Json = {"id": self._item_id, "content": content, "role": "assistant", "status": status}
        return fields | {"type": "message", "phase": None}

    def _finished(self, status: str) -> Json:
        prompt, output = self.ask.prompt_tokens, sum(self.sent)
        cached = {"cached_tokens": self.cached_tokens, "cache_write_tokens": 0}
        usage = {
            "input_tokens": prompt,
            "input_tokens_details": cached | {"input_tokens_per_turn": [], "cached_tokens_per_turn": []},
            "output_tokens": output,
            "output_tokens_details": {
                "reasoning_tokens": 0,
                "tool_output_tokens": 0,
                "output_tokens_per_turn": [],
                "tool_output_tokens_per_turn": [],
            },
            "total_tokens": prompt + output,
        }
        return self._response(status, [self._item("completed", [self._part()])], usage)

    def _response(self, status: str, output: list[Json], usage: Json | None) -> Json:
        return {
            "id": self._response_id,
            "created_at": self.created,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "metadata": None,
            "model": self.ask.model,
            "object": "response",
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 0.0,
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0,
            "background": False,
            "max_output_tokens": self.ask.limits.max_tokens,
            **dict.fromkeys(("max_tool_calls", "previous_response_id", "prompt", "reasoning")),
            "service_tier": "auto",
            "status": status,
            "text": None,
            "top_logprobs": None,
            "truncation": "disabled",
            "usage": usage,
            "user": None,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            **dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "input_messages", "output_messages")),
        }
