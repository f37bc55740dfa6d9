"""How a stream whose replica died goes on at another one: which may, what that one is asked, and what comes of it.

Exact: the prompt's token ids and those of the output so far go to /v1/completions, whose text becomes the rest of the
client's stream. By text: the output so far is put behind the request, which is mostly close, and not the same.
Sources: vLLM's /v1/completions and `continue_final_message`; what is exact was tried on real vLLM (docs/resume.md).
"""

from collections.abc import Sequence

import msgspec

from gateway.core.carry import Carry
from gateway.core.endpoints import Endpoint, Shape

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_prompt = msgspec.json.Decoder(str)
_messages = msgspec.json.Decoder(list[msgspec.Raw])
_number = msgspec.json.Decoder(int | None)
_encode = msgspec.json.encode

KEPT = frozenset(
    (
        "model", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids", "ignore_eos", "bad_words",
        "include_stop_str_in_output", "skip_special_tokens", "spaces_between_special_tokens", "repetition_penalty",
        "length_penalty", "logit_bias", "allowed_token_ids", "cache_salt", "priority", "user", "vllm_xargs",
    )
)  # fmt: skip
"""What of a request holds for its rest, too: not what made its prompt, which is known; token limits are lowered."""

COMPLETION_TOKENS = 16
"""How many tokens a completion has that does not say it: OpenAI's default, and vLLM's. A chat has what fits."""


def resumed_exactly(endpoint: Endpoint, body: bytes, carry: Carry, kept: int) -> bytes | None:
    """The body for /v1/completions that gives the rest, of which `kept` tokens of the output are a part already.

    `None` if no token is left to ask for.
    """
    fields = _fields.decode(body)
    limit = _limit(endpoint, fields)
    if limit is not None and limit <= kept:
        return None
    request: dict[str, object] = {name: value for name, value in fields.items() if name in KEPT}
    least = _number.decode(fields["min_tokens"]) if "min_tokens" in fields else None
    if least:
        request["min_tokens"] = max(0, least - kept)
    request |= {
        "prompt": carry.prompt_ids + carry.ids[:kept],
        "max_tokens": None if limit is None else limit - kept,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    return _encode(request)


def resumed_by_text(endpoint: Endpoint, body: bytes, carry: Carry) -> bytes | None:
    """The same request with what was handed on behind it; `None` if nothing is left to ask for, or it has no text.

    How many tokens were told is not known, only how many events: the limit may be passed by a little.
    """
    fields: dict[str, object] = dict(_fields.decode(body))
    limit = _limit(endpoint, _fields.decode(body))
    if limit is not None and limit <= carry.events:
        return None
    if endpoint.shape is Shape.CHAT:
        said = {"role": "assistant", "content": carry.text}
        fields["messages"] = [*_messages.decode(_raw(fields["messages"])), said]
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    else:
        try:
            fields["prompt"] = _prompt.decode(_raw(fields["prompt"])) + carry.text
        except msgspec.ValidationError:  # token ids: no text to put anything behind
            return None
    if limit is not None:
        name = "max_completion_tokens" if fields.get("max_completion_tokens") not in (None, _NULL) else "max_tokens"
        fields[name] = limit - carry.events
    return _encode(fields)


_NULL = msgspec.Raw(b"null")


def _raw(value: object) -> msgspec.Raw:
    assert isinstance(value, msgspec.Raw)
    return value


def _limit(endpoint: Endpoint, fields: dict[str, msgspec.Raw]) -> int | None:
    """The most tokens that the answer may have; `None`: as many as fit."""
    names: Sequence[str] = ("max_completion_tokens", "max_tokens") if endpoint.shape is Shape.CHAT else ("max_tokens",)
    for name in names:
        limit: int | None = _number.decode(fields[name]) if name in fields else None
        if limit is not None:
            return limit
    return None if endpoint.shape is Shape.CHAT or "max_tokens" in fields else COMPLETION_TOKENS
