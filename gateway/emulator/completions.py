"""/v1/completions as vLLM tells it."""

from typing import Any

import msgspec

from gateway.emulator.chat import logprobs
from gateway.emulator.shapes import FINGERPRINT, Chunks, Json, data


class Completions(Chunks):
    """No role event; token ids in the choice, those of the prompt in the first event."""

    kind = "text_completion"
    prefix = "cmpl"

    def event(self, index: int, start: int, stop: int) -> bytes:
        return data(self.chunk([self._choice(index, start, stop)]))

    def _choice(self, index: int, start: int, stop: int) -> Json:
        answer = self.answers[index]
        finish = self.finish(index, stop)
        ids = self.ask.token_ids
        return {
            "index": index,
            "text": self.text(index, start, stop),
            "logprobs": self._logprobs(index, start, stop),
            "finish_reason": finish,
            "stop_reason": answer.stop_reason if finish is not None else None,
            "prompt_token_ids": self.prompt_of(index) if ids and start == 0 else None,
            "token_ids": answer.ids[start:stop] if ids else None,
        }

    def _logprobs(self, index: int, start: int, stop: int) -> dict[str, Any] | None:
        if self.ask.logprobs is None:
            return None
        entries = logprobs(self.answers[index].ids[start:stop], self.ask.logprobs)
        offset, offsets = len(self.text(index, 0, start)), []
        for entry in entries:
            offsets.append(offset)
            offset += len(entry["token"])
        return {
            "text_offset": offsets,
            "token_logprobs": [entry["logprob"] for entry in entries],
            "tokens": [entry["token"] for entry in entries],
            "top_logprobs": [{entry["token"]: entry["logprob"]} for entry in entries],
        }

    def whole(self) -> bytes:
        choices = [self._choice(index, 0, len(answer.ids)) for index, answer in enumerate(self.answers)]
        fields: Json = {
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": self.usage(),
            "kv_transfer_params": None,
        }
        return msgspec.json.encode(self.chunk([]) | fields)
