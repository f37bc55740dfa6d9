"""From a request body to what the engine is asked: token ids and limits. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import xxhash

from gateway.emulator import tokens
from gateway.emulator.bodies import (
    ChatBody,
    Common,
    CompletionBody,
    Content,
    Message,
    MessagesBody,
    ResponsesBody,
    read,
)
from gateway.emulator.forced import Forced, forced
from gateway.emulator.refusals import Refusal, bad_value, invalid, too_long, unknown_model
from gateway.emulator.text import Answer, Limits, compose, write


@dataclass(frozen=True, slots=True)
class Served:
    """What a replica serves: model names, the first is the default, and the longest context in tokens.

    `adapters`: LoRA adapters of the default model, as vLLM's `--lora-modules` name them.
    """

    models: tuple[str, ...] = ("emulated",)
    max_model_len: int = 32768
    adapters: tuple[str, ...] = ()

    def check(self, model: str | None) -> str:
        """The model to use; 404 when it is another's."""
        if model is not None and model not in self.models and model not in self.adapters:
            raise unknown_model(model, self.models)
        return model or self.models[0]


@dataclass(frozen=True, slots=True)
class Ask:
    """One generating request, checked. Choices are numbered over prompts × n."""

    model: str
    prompts: tuple[tuple[int, ...], ...]
    limits: Limits
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    token_ids: bool = False
    prompt_is_ids: bool = False
    ignore_eos: bool = False
    echo: bool = False
    logprobs: int | None = None
    salt: str = ""
    priority: int = 0
    request_id: str | None = None
    forced: Forced | None = None

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))


def answers(ask: Ask) -> tuple[Answer, ...]:
    """All choices of the request, complete: the emulator knows the whole answer before the first token is due."""
    return tuple(_answer(ask, prompt, branch) for prompt in ask.prompts for branch in range(ask.n))


def _answer(ask: Ask, prompt: tuple[int, ...], branch: int) -> Answer:
    if ask.forced is not None:
        return compose(iter((*tokens.encode(ask.forced.text), tokens.EOS)), ask.limits)
    primed = b""
    if ask.echo or (ask.prompt_is_ids and tokens.decode(prompt).endswith("\ufffd")):
        # A prompt of ids that ends inside a character: vLLM returns the whole prompt's text before the output.
        primed = b"".join(map(tokens.token_bytes, prompt))
    eos_after = float("inf") if ask.ignore_eos else ask.limits.min_tokens
    return compose(write(ask.model, prompt, branch=branch, eos_after=eos_after), ask.limits, primed)


def chat(raw: bytes, served: Served) -> Ask:
    body = read(raw, ChatBody)
    last_text = _text(body.messages[-1].content) if body.messages else ""
    prompt = template(body.messages, body.tools, continued=bool(body.continue_final_message))
    budget = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    constraint = forced(body.tools, body.tool_choice, last_text, body.response_format)
    return _ask(body, served, (prompt,), budget, logprobs=logprobs, forced=constraint)


def completion(raw: bytes, served: Served) -> Ask:
    body = read(raw, CompletionBody)
    prompts, is_ids = _prompts(body.prompt)
    ask = _ask(body, served, prompts, body.max_tokens, logprobs=body.logprobs)
    return replace(ask, prompt_is_ids=is_ids, echo=bool(body.echo))


def responses(raw: bytes, served: Served) -> Ask:
    body = read(raw, ResponsesBody)
    messages = [Message("user", body.input)] if isinstance(body.input, str) else [_item(item) for item in body.input]
    if body.instructions:
        messages.insert(0, Message("system", body.instructions))
    return _ask(body, served, (template(messages),), body.max_output_tokens)


def anthropic(raw: bytes, served: Served) -> Ask:
    body = read(raw, MessagesBody)
    if body.max_tokens is None:
        raise invalid("Object missing required field `max_tokens`", "max_tokens")
    messages = [Message("system", body.system), *body.messages] if body.system else body.messages
    body.stop = body.stop_sequences
    return _ask(body, served, (template(messages),), body.max_tokens)


ASKS: dict[str, Callable[[bytes, Served], Ask]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completion,
    "/v1/responses": responses,
    "/v1/messages": anthropic,
}


def template(
    messages: Sequence[Message], tools: Sequence[Any] | None = None, *, continued: bool = False
) -> tuple[int, ...]:
    """The chat template: each message between a marker and an end marker; `continued` leaves the last one open."""
    ids: list[int] = [tokens.BOS]
    if tools:
        ids += (tokens.TOOL, *tokens.encode(msgspec.json.encode(tools).decode()), tokens.TURN_END)
    for message in messages:
        ids.append(tokens.MARKERS.get(message.role, tokens.USER))
        ids += _content(message.content)
        for call in message.tool_calls or ():
            ids += tokens.encode(msgspec.json.encode(call.function).decode())
        ids.append(tokens.TURN_END)
    if continued and messages:
        return tuple(ids[:-1])
    return (*ids, tokens.ASSISTANT)


def _content(content: Content) -> tuple[int, ...]:
    if content is None or isinstance(content, str):
        return tokens.encode(content or "")
    ids: list[int] = []
    for part in content:
        if isinstance(part.get("text"), str):
            ids += tokens.encode(part["text"])
        else:
            # An image or the like: it fills tokens, and equal pictures fill them alike.
            ids += (tokens.IMAGE, *xxhash.xxh3_128_digest(msgspec.json.encode(part)) * 4)
    return tuple(ids)


def _text(content: Content) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if isinstance(part.get("text"), str))


def _item(item: dict[str, Any]) -> Message:
    """An input item of /v1/responses; those that are no messages count by their JSON."""
    if isinstance(item.get("role"), str):
        return Message(item["role"], item.get("content"))
    return Message("user", msgspec.json.encode(item).decode())


def _prompts(prompt: str | list[str | int | list[int]]) -> tuple[tuple[tuple[int, ...], ...], bool]:
    if isinstance(prompt, str):
        return (tokens.encode(prompt),), False
    if prompt and all(isinstance(item, int) for item in prompt):
        return (_ids(prompt),), True
    several = tuple(tokens.encode(item) if isinstance(item, str) else _ids(item) for item in prompt)
    return several, any(isinstance(item, list) for item in prompt)


def _ids(ids: Any) -> tuple[int, ...]:
    if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
        raise invalid("Input should be a valid list of token ids", "prompt")
    if any(not 0 <= token < tokens.VOCABULARY for token in ids):
        raise bad_value("Token id is out of vocabulary", "prompt")
    return tuple(ids)


def _ask(
    body: Common,
    served: Served,
    prompts: tuple[tuple[int, ...], ...],
    budget: int | None,
    *,
    logprobs: int | None = None,
    forced: Forced | None = None,
) -> Ask:
    """What the endpoints share; vLLM cuts a budget that does not fit behind the prompt without a word."""
    model = served.check(body.model)
    longest = max(map(len, prompts), default=0)
    _check(body, served, prompts, budget)
    options = body.stream_options
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    limits = Limits(
        max_tokens=min(budget or served.max_model_len, served.max_model_len - longest),
        min_tokens=body.min_tokens or 0,
        stops=tuple(stop for stop in stops if stop),
        include_stop=bool(body.include_stop_str_in_output),
    )
    return Ask(
        model=model,
        prompts=prompts,
        limits=limits,
        n=body.n or 1,
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        continuous_usage=bool(options and options.include_usage and options.continuous_usage_stats),
        token_ids=bool(body.return_token_ids),
        ignore_eos=bool(body.ignore_eos),
        logprobs=logprobs,
        salt=body.cache_salt or "",
        priority=body.priority or 0,
        request_id=body.request_id,
        forced=forced,
    )


def _check(body: Common, served: Served, prompts: tuple[tuple[int, ...], ...], budget: int | None) -> None:
    """vLLM's 400s for values out of range, in the order of its fields."""
    longest = max(map(len, prompts), default=0)
    problems: list[tuple[bool, Refusal]] = [
        (
            body.temperature is not None and body.temperature < 0,
            bad_value("temperature must be non-negative", "temperature"),
        ),
        (body.top_p is not None and not 0 < body.top_p <= 1, bad_value("top_p must be in (0, 1]", "top_p")),
        (body.cache_salt == "", bad_value("Parameter 'cache_salt' must be a non-empty string", "cache_salt")),
        (budget is not None and budget < 1, bad_value("max_tokens must be at least 1", "max_tokens")),
        (body.n is not None and not 1 <= body.n <= 128, bad_value("n must be at least 1", "n")),
        (not prompts or longest == 0, bad_value("The prompt is empty", "prompt")),
        ((budget or 0) > served.max_model_len, bad_value("max_tokens is above the model's context", "max_tokens")),
        (longest >= served.max_model_len, too_long(served.max_model_len, longest)),
        (
            (body.min_tokens or 0) > (budget or served.max_model_len),
            bad_value("min_tokens must be less than or equal to max_tokens", "min_tokens"),
        ),
    ]
    for wrong, refusal in problems:
        if wrong:
            raise refusal
