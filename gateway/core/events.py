"""What one event of a streamed answer says: output, usage, an end, a failure. One reader for each API's event shape.

Sources: OpenAI API reference (chat and completion chunks, Responses events), Anthropic Messages streaming, and what
vLLM sends: a role chunk before the first token, `finish_reason: "abort"` from a replica that was stopped, an `error`
event before a `[DONE]`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gateway.core.decoding import UNREADABLE


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the replica reported them. `cached_tokens` is `None` when it does not report them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """What an event means to the relay.

    `output`: it carries generated text, reasoning or tool-call arguments; a role chunk does not.
    `usage_only`: an event that exists for its usage alone.
    `finished`: the answer has come to its end; `aborted`: because the replica was stopped.
    `error`: the replica's own words, in an event that says that the answer has failed; `code`: its code if that is a
    4xx, so that the client's request is at fault, which no other replica would answer differently.
    """

    output: bool = False
    usage: Usage | None = None
    usage_only: bool = False
    finished: bool = False
    aborted: bool = False
    error: str | None = None
    code: int | None = None


NOTHING = Signal()
OUTPUT = Signal(output=True)
_OPEN_ENDED = Signal(output=True, finished=True)
FINISHED = Signal(finished=True)
ABORTED = Signal(aborted=True)

Reader = Callable[[bytes], Signal]
"""Reads an event's data. Data that is not what the API promises is `NOTHING`: the client may know better."""


MAX_ERROR_CHARS = 500


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None

    def plain(self) -> Usage:
        details = self.prompt_tokens_details or self.input_tokens_details
        return Usage(
            self.prompt_tokens if self.prompt_tokens is not None else self.input_tokens,
            self.completion_tokens if self.completion_tokens is not None else self.output_tokens,
            details.cached_tokens if details else self.cache_read_input_tokens,
        )


class _Function(msgspec.Struct):
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    def has_output(self) -> bool:
        delta = self.delta
        if delta is None:
            return bool(self.text)
        if delta.content or delta.reasoning or delta.reasoning_content or delta.refusal:
            return True
        calls = delta.tool_calls
        return calls is not None and any(call.function and call.function.arguments for call in calls)


_ABSENT = msgspec.Raw()  # as a type, msgspec takes `Raw | None` for null alone


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: msgspec.Raw = _ABSENT


class _Response(msgspec.Struct):
    usage: _Usage | None = None
    error: msgspec.Raw = _ABSENT


class _ResponseEvent(msgspec.Struct):
    """An event of the Responses API: its `type` says what the rest is."""

    type: str = ""
    delta: str | None = None
    response: _Response | None = None
    error: msgspec.Raw = _ABSENT


class _MessageDelta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | msgspec.UnsetType | None = msgspec.UNSET


class _MessageEvent(msgspec.Struct):
    """An event of the Messages API: its `type` says what the rest is."""

    type: str = ""
    delta: _MessageDelta | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = _ABSENT


class _Error(msgspec.Struct):
    message: str | None = None
    code: int | str | None = None


class _Answer(msgspec.Struct):
    usage: _Usage | None = None


_chunk = msgspec.json.Decoder(_Chunk)
_response_event = msgspec.json.Decoder(_ResponseEvent)
_message_event = msgspec.json.Decoder(_MessageEvent)
_error = msgspec.json.Decoder(_Error)
_answer = msgspec.json.Decoder(_Answer)


def read_chunk(data: bytes) -> Signal:
    """An event of chat completions, completions or audio transcriptions."""
    if data == b"[DONE]":
        return FINISHED
    try:
        chunk = _chunk.decode(data)
    except UNREADABLE:
        return NOTHING
    if chunk.error and bytes(chunk.error) != b"null":
        return _failure(chunk.error)
    choices = chunk.choices
    if len(choices) == 1 and chunk.usage is None:  # nearly all events: one choice, a token or the end
        choice = choices[0]
        if choice.finish_reason is None:
            return OUTPUT if choice.has_output() else NOTHING
    return Signal(
        output=any(choice.has_output() for choice in choices),
        usage=chunk.usage.plain() if chunk.usage else None,
        usage_only=not choices and chunk.usage is not None,
        finished=any(choice.finish_reason for choice in choices),
        aborted=any(choice.finish_reason == "abort" for choice in choices),
    )


_OUTPUT_DELTAS = ("output_text.delta", "reasoning_text.delta", "arguments.delta", "summary_text.delta", "refusal.delta")
_ENDS = ("response.completed", "response.incomplete", "response.cancelled")


def read_response_event(data: bytes) -> Signal:
    """An event of the Responses API: named events, no `[DONE]`."""
    try:
        event = _response_event.decode(data)
    except UNREADABLE:
        return NOTHING
    kind = event.type
    if kind.endswith(_OUTPUT_DELTAS):
        return OUTPUT if event.delta else NOTHING
    if event.error and bytes(event.error) != b"null":
        return _failure(event.error)
    if kind == "error":  # its own fields are the error's
        return _failure(msgspec.Raw(data))
    response = event.response or _Response()
    if kind == "response.failed":
        return _failure(response.error)
    if kind in _ENDS:
        return Signal(finished=True, usage=response.usage.plain() if response.usage else None)
    return NOTHING


def read_message_event(data: bytes) -> Signal:
    """An event of the Anthropic Messages API: `message_start` … `message_stop`."""
    try:
        event = _message_event.decode(data)
    except UNREADABLE:
        return NOTHING
    delta = event.delta
    match event.type:
        case "content_block_delta":
            return OUTPUT if delta and (delta.text or delta.thinking or delta.partial_json) else NOTHING
        case "message_delta":
            # vLLM ends an aborted message with a stop reason of null.
            aborted = delta is not None and delta.stop_reason is None
            return Signal(usage=event.usage.plain() if event.usage else None, aborted=aborted)
        case "message_stop":
            return FINISHED
        case "error":
            return _failure(event.error)
    return NOTHING


def read_nothing(data: bytes) -> Signal:
    """An event of an API whose events are not known: it counts as output, and any end is a good one."""
    return _OPEN_ENDED


def usage_of(body: bytes) -> Usage | None:
    """The usage in a whole (not streamed) JSON answer; `None` if there is none to be read."""
    try:
        usage = _answer.decode(body).usage
    except UNREADABLE:
        return None
    return usage.plain() if usage else None


def _failure(error: msgspec.Raw) -> Signal:
    raw = bytes(error)
    try:
        told = _error.decode(raw)
    except UNREADABLE:
        told = _Error()
    said_nothing = raw in (b"", b"null")
    message = told.message or ("the replica reported an error" if said_nothing else raw.decode(errors="replace"))
    code = told.code if isinstance(told.code, int) and 400 <= told.code < 500 else None
    return Signal(error=message[:MAX_ERROR_CHARS], code=code)
