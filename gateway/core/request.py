"""A request's body, read as far as routing needs it. The bytes themselves go on unchanged."""

import re
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import xxhash

from gateway.core.endpoints import Endpoint, Shape
from gateway.core.multipart import form_fields
from gateway.core.prefix import BLOCK_BYTES, chain
from gateway.errors import BadRequest

BYTES_PER_TOKEN = 4
"""English text and JSON under today's tokenizers, about; only ratios between requests matter to routing."""


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What is known of a request before it is routed.

    `model`: `None` when the body names none; the replica's own model answers then.
    `system_key`: hash of the model and the system prompt (of the first message where there is none); `None` for
    requests without a prompt that a KV cache could know.
    `prompt_tokens`: an estimate from the body's length.
    `hides_usage`: the gateway asked for the usage event, the client did not.
    `body`: what the replica is sent.
    `blocks`: the prompt as a chain of block hashes, of whole blocks only.
    """

    endpoint: Endpoint
    model: str | None
    stream: bool
    system_key: int | None
    prompt_tokens: int
    hides_usage: bool
    body: bytes
    blocks: tuple[int, ...] = ()

    def uncached_tokens(self, depth: int) -> int:
        """Prefill that this request costs where the first `depth` blocks are held; at least 1, the last token."""
        return max(1, self.prompt_tokens - depth * BLOCK_BYTES // BYTES_PER_TOKEN)


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Plain(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    cache_salt: str | None = None


class _Turn(msgspec.Struct):
    role: str
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Chat(_Plain, kw_only=True):
    messages: list[_Turn]
    tools: msgspec.Raw = msgspec.Raw(b"")


class _Completion(_Plain):
    prompt: msgspec.Raw = msgspec.Raw(b"")


class _Response(_Plain):
    instructions: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")


class _Message(_Chat, kw_only=True):
    system: msgspec.Raw = msgspec.Raw(b"")


_plain = msgspec.json.Decoder(_Plain)
_chat = msgspec.json.Decoder(_Chat)
_completion = msgspec.json.Decoder(_Completion)
_response = msgspec.json.Decoder(_Response)
_message = msgspec.json.Decoder(_Message)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_options = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)

_Body = TypeVar("_Body")
_AT = re.compile(r" - at `\$\.?(.*)`$")
_MISSING = re.compile(r"missing required field `(\w+)`")

SYSTEM_ROLES = ("system", "developer")
HEAD_BYTES = 4096
"""How much of a prompt without a system part stands for it: what prompts of one application share is at the front."""


def parse(endpoint: Endpoint, content_type: bytes, body: bytes) -> RequestFacts:
    """The facts of a request. Raises `BadRequest`, with `param` where a field is to blame."""
    if endpoint.shape is Shape.FORM:
        return _parse_form(endpoint, content_type, body)
    if not body:
        raise BadRequest("the request has no body; a JSON object was expected")
    plain, head, prompt = _read(endpoint.shape, body)
    stream = bool(plain.stream)
    asked = plain.stream_options is not None and bool(plain.stream_options.include_usage)
    hides_usage = stream and endpoint.asks_usage and not asked
    return RequestFacts(
        endpoint=endpoint,
        model=plain.model,
        stream=stream,
        system_key=_key(plain.model, head),
        prompt_tokens=max(1, len(body) // BYTES_PER_TOKEN),
        hides_usage=hides_usage,
        body=_asking_for_usage(body, plain.stream_options is not None) if hides_usage else body,
        blocks=chain(f"{plain.model}\0{plain.cache_salt}".encode(), prompt),
    )


def _read(shape: Shape, body: bytes) -> tuple[_Plain, bytes, bytes]:
    """The body, the part of its prompt that requests of one application have in common, and the whole prompt in the
    order in which the replica's chat template puts it: tools, system, messages."""
    match shape:
        case Shape.CHAT:
            chat = _decode(_chat, body)
            return chat, _system_part(chat.messages), _said(chat.tools) + _turns(chat.messages)
        case Shape.MESSAGE:
            message = _decode(_message, body)
            system = _said(message.system)
            head = system or _system_part(message.messages)
            return message, head, _said(message.tools) + system + _turns(message.messages)
        case Shape.RESPONSE:
            response = _decode(_response, body)
            prompt = (response.instructions or "").encode() + _said(response.input)
            return response, (response.instructions or "").encode() or prompt[:HEAD_BYTES], prompt
        case Shape.COMPLETION:
            completion = _decode(_completion, body)
            prompt = _said(completion.prompt)
            return completion, prompt[:HEAD_BYTES], prompt
        case _:
            return _decode(_plain, body), b"", b""


def _turns(messages: list[_Turn]) -> bytes:
    return b"".join([b"%b\0%b\0" % (turn.role.encode(), bytes(turn.content)) for turn in messages])


def _decode(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message = str(error)
        at = _AT.search(message)
        missing = _MISSING.search(message)
        path = ".".join(part for part in (at and at[1], missing and missing[1]) if part)
        raise BadRequest(message.replace("`$.", "`").replace("`$`", "the body"), param=path or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the request body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("the request body is nested too deeply") from None


def _system_part(messages: list[_Turn]) -> bytes:
    system = b"".join(_said(turn.content) for turn in messages if turn.role in SYSTEM_ROLES)
    return system or next((said for turn in messages if (said := _said(turn.content))), b"")[:HEAD_BYTES]


def _said(prompt: msgspec.Raw) -> bytes:
    """The bytes of a prompt; none for one that is there but empty, or all who send such a one would share a key."""
    said = bytes(prompt)
    return b"" if said in (b"null", b'""', b"[]") else said


def _key(model: str | None, prompt: bytes) -> int | None:
    if not prompt:
        return None
    return xxhash.xxh3_64_intdigest(prompt, seed=xxhash.xxh3_64_intdigest((model or "").encode()))


def _asking_for_usage(body: bytes, has_options: bool) -> bytes:
    """The body with `stream_options.include_usage` set; every other value keeps its bytes."""
    if not has_options and b'"stream_options"' not in body:
        end = body.rindex(b"}")  # of two equal names the last counts: here it is ours, however the other is spelt
        return b'%b,"stream_options":{"include_usage":true}%b' % (body[:end], body[end:])
    fields = _decode(_fields, body)
    options = _decode(_options, bytes(fields.get("stream_options", b"null"))) or {}
    options["include_usage"] = msgspec.Raw(b"true")
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return msgspec.json.encode(fields)


def _parse_form(endpoint: Endpoint, content_type: bytes, body: bytes) -> RequestFacts:
    fields = form_fields(content_type, body, ("model", "stream"))
    return RequestFacts(
        endpoint=endpoint,
        model=fields.get("model"),
        stream=fields.get("stream", "").lower() in ("true", "1"),
        system_key=None,
        prompt_tokens=max(1, len(body) // BYTES_PER_TOKEN),
        hides_usage=False,
        body=body,
    )
