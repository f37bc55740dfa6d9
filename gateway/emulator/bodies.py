"""The request bodies of the generating endpoints, as far as the emulator looks at them; unknown fields are ignored."""

from typing import Any, TypeVar

import msgspec

from gateway.emulator.refusals import invalid

Body = TypeVar("Body", bound=msgspec.Struct)
Content = str | list[dict[str, Any]] | None
"""Message content: text, or OpenAI/Anthropic content parts."""


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class Common(msgspec.Struct, kw_only=True):
    """What all generating endpoints of vLLM share."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    max_tokens: int | None = None
    min_tokens: int | None = 0
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    include_stop_str_in_output: bool | None = False
    ignore_eos: bool | None = False
    return_token_ids: bool | None = False
    cache_salt: str | None = None
    priority: int | None = 0
    request_id: str | None = None


class ToolCall(msgspec.Struct):
    function: dict[str, Any] | None = None


class Message(msgspec.Struct):
    role: str
    content: Content = None
    tool_calls: list[ToolCall] | None = None


class ChatBody(Common, kw_only=True):
    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    add_generation_prompt: bool | None = True
    continue_final_message: bool | None = False


class CompletionBody(Common, kw_only=True):
    """`prompt`: text, token ids, or a list of either. OpenAI's default limit is 16 tokens; null is as many as fit."""

    prompt: str | list[str | int | list[int]]
    max_tokens: int | None = 16
    logprobs: int | None = None
    echo: bool | None = False


class ResponsesBody(Common, kw_only=True):
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None


class MessagesBody(Common, kw_only=True):
    messages: list[Message]
    system: Content = None
    stop_sequences: list[str] | None = None


class TokenizeBody(msgspec.Struct, kw_only=True):
    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    return_token_strs: bool | None = False


class DetokenizeBody(msgspec.Struct, kw_only=True):
    tokens: list[int]
    model: str | None = None


def read(raw: bytes, kind: type[Body]) -> Body:
    """The body as `kind`, or vLLM's 400 that names the field."""
    try:
        return msgspec.json.decode(raw, type=kind, strict=True)
    except msgspec.ValidationError as error:
        message = str(error)
        where = message.partition("`$.")[2].partition("`")[0].partition("[")[0]
        missing = message.partition("missing required field `")[2].partition("`")[0]
        raise invalid(message, missing or where or None) from None
    except msgspec.DecodeError as error:
        raise invalid(f"JSON decode error: {error}", None) from None
