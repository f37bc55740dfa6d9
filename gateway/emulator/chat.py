"""/v1/chat/completions as vLLM tells it, and the logprobs of chat and completions."""

from typing import Any

import msgspec

from gateway.emulator import tokens
from gateway.emulator.shapes import FINGERPRINT, Chunks, Json, data


class Chat(Chunks):
    """Role event with the first token, one event a token, finish reason on the last of them."""

    kind = "chat.completion.chunk"
    prefix = "chatcmpl"

    def prompt_details(self) -> Json:
        return {"cached_tokens": self.cached_tokens, "created_cache_tokens": 0}

    def event(self, index: int, start: int, stop: int) -> bytes:
        events = b""
        if start == 0:
            events += self._role(index)
        choice: Json = {
            "index": index,
            "delta": self._delta(index, start, stop),
            "logprobs": None,
            "finish_reason": None,
        }
        if self.ask.logprobs is not None:
            choice["logprobs"] = {"content": logprobs(self.answers[index].ids[start:stop], self.ask.logprobs)}
        finish = self.finish(index, stop)
        if finish is not None:
            choice |= {"finish_reason": finish, "stop_reason": self.answers[index].stop_reason}
        choice["token_ids"] = self.answers[index].ids[start:stop] if self.ask.token_ids else None
        return events + data(self.chunk([choice]))

    def _role(self, index: int) -> bytes:
        delta = {"role": "assistant", "content": ""}
        chunk = self.chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])
        chunk |= {"prompt_token_ids": self.prompt_of(index) if self.ask.token_ids else None, "prompt_text": None}
        events = data(chunk)
        if self.ask.forced is not None and self.ask.forced.tool is not None:
            call = {"id": self._call_id(index), "type": "function", "index": 0}
            function = {"name": self.ask.forced.tool, "arguments": ""}
            named = {"index": index, "delta": {"tool_calls": [call | {"function": function}]}}
            events += data(self.chunk([named | {"logprobs": None, "finish_reason": None, "token_ids": None}]))
        return events

    def _delta(self, index: int, start: int, stop: int) -> Json:
        text = self.text(index, start, stop)
        if self.ask.forced is None or self.ask.forced.tool is None:
            return {"content": text}
        return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}

    def whole(self) -> bytes:
        return msgspec.json.encode(
            self.chunk([])
            | {
                "object": "chat.completion",
                "choices": [self._choice(index) for index in range(len(self.answers))],
                "service_tier": None,
                "system_fingerprint": FINGERPRINT,
                "usage": self.usage(),
                "prompt_logprobs": None,
                "prompt_token_ids": self.prompt_of(0) if self.ask.token_ids else None,
                "kv_transfer_params": None,
            }
        )

    def _choice(self, index: int) -> Json:
        answer = self.answers[index]
        message: Json = {"role": "assistant", "content": answer.text, "refusal": None, "tool_calls": []}
        if self.ask.forced is not None and self.ask.forced.tool is not None:
            function = {"name": self.ask.forced.tool, "arguments": answer.text}
            calls = [{"id": self._call_id(index), "type": "function", "function": function}]
            message |= {"content": None, "tool_calls": calls}
        wanted = self.ask.logprobs
        return {
            "index": index,
            "message": message | {"reasoning": None},
            "logprobs": None if wanted is None else {"content": logprobs(answer.ids, wanted)},
            "finish_reason": self.finish(index, len(answer.ids)),
            "stop_reason": answer.stop_reason,
            "token_ids": answer.ids if self.ask.token_ids else None,
        }

    def _call_id(self, index: int) -> str:
        return f"chatcmpl-tool-{self.ident}-{index}"


def logprobs(ids: tuple[int, ...], top: int) -> list[dict[str, Any]]:
    """One entry a token; the values are made up, the shape is OpenAI's."""
    entries = []
    for token in ids:
        raw = tokens.token_bytes(token)
        entry = {"token": raw.decode("utf-8", "replace"), "logprob": -0.5, "bytes": list(raw)}
        entries.append(entry | {"top_logprobs": [entry] * min(top, 1)})
    return entries
