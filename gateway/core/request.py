"""A request's body, read as far as routing needs it. The bytes themselves go on unchanged."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import xxhash

from gateway.core.aliases import NO_ALIASES, form_with_model, with_model
from gateway.core.bodies import (
    ABSENT,
    CHAT,
    COMPLETION,
    EMBEDDING,
    FIELDS,
    LOOSE_CHAT,
    LOOSE_MESSAGE,
    MESSAGE,
    OPTIONS,
    PLAIN,
    RESPONSE,
    SCORE,
    TURNS,
    Chat,
    Embedding,
    LooseTurn,
    Plain,
    Score,
    Turn,
    asks_ids,
    resumable,
)
from gateway.core.clipping import LONG_BYTES, clipped_ids, clipped_text, is_text, shorten, worth_clipping
from gateway.core.decoding import decode
from gateway.core.endpoints import Endpoint, Shape
from gateway.core.multipart import form_fields
from gateway.core.prefix import BLOCK_BYTES, chain, extended
from gateway.core.prompt import ID_BYTES, Prompt, completion, conversation, plain_json, said, turn_bytes
from gateway.core.tokens import BYTES_PER_TOKEN
from gateway.errors import BadRequest


class RequestFacts(msgspec.Struct, frozen=True):
    """What is known of a request before it is routed.

    `model`: `None` when the body names none; the replica's own model answers then.
    `system_key`: hash of the model and the system prompt (of the first message where there is none); `None` for
    requests without a prompt that a KV cache could know.
    `prompt_tokens`: an estimate from the length of the prompt, or of the body where no prompt is known in it.
    `hides_usage`: the gateway asked for the usage event, the client did not.
    `body`: what the replica is sent.
    `blocks`: the prompt as a chain of block hashes, of whole blocks only; `block_tokens`: tokens in one of them.
    `prompt_bytes`: what `prompt_tokens` was guessed from; 0 where there is nothing to learn from usage.
    `tail`: the prompt's bytes behind its last whole block, where the reply would follow; `None`: it would not, the
    blocks are not the whole prompt or no text.
    `session`: `x-session-id`.
    `resumable`: a stream of plain text, which another replica can go on with if its replica dies.
    `shows_ids`: the client itself asked for token ids.
    """

    endpoint: Endpoint
    model: str | None
    stream: bool
    system_key: int | None
    prompt_tokens: int
    hides_usage: bool
    body: bytes
    blocks: tuple[int, ...] = ()
    block_tokens: float = BLOCK_BYTES / BYTES_PER_TOKEN
    prompt_bytes: int = 0
    tail: bytes | None = b""
    session: str | None = None
    resumable: bool = False
    shows_ids: bool = False

    def blocks_with(self, reply: str) -> tuple[int, ...]:
        """The blocks of the next turn's prompt, which begins with this one's and with the reply: all that a replica
        holds when it has answered."""
        if self.tail is None:
            return self.blocks
        said = reply.encode()
        return extended(self.blocks, self.tail + (turn_bytes("assistant", said) if self.is_chat else said))

    @property
    def is_chat(self) -> bool:
        return self.endpoint.shape is Shape.CHAT

    def uncached_tokens(self, depth: int) -> int:
        """Prefill that this request costs where the first `depth` blocks are held; at least 1, the last token."""
        return max(1, self.prompt_tokens - int(depth * self.block_tokens))


SYSTEM_ROLES = ("system", "developer")
HEAD_BYTES = 4096
"""How much of a prompt without a system part stands for it: what prompts of one application share is at the front."""


def _usual(model: str | None) -> float:
    return BYTES_PER_TOKEN


def parse(
    endpoint: Endpoint,
    content_type: bytes,
    body: bytes,
    *,
    session: str | None = None,
    bytes_per_token: Callable[[str | None], float] = _usual,
    aliases: Mapping[str, str] = NO_ALIASES,
) -> RequestFacts:
    """The facts of a request. Raises `BadRequest`, with `param` where a field is to blame.

    `bytes_per_token`: what has been learned of a model's tokenizer. `aliases`: public name -> name that replicas serve.
    """
    if endpoint.shape is Shape.FORM:
        return _parse_form(endpoint, content_type, body, session, aliases)
    plain, prompt = _read(endpoint.shape, body)
    served = aliases.get(plain.model or "")
    if served is not None:
        plain.model = served
        body = with_model(body, served)
    stream = bool(plain.stream)
    hides_usage = stream and endpoint.asks_usage and not plain.asks_usage
    ratio = ID_BYTES if prompt.tokens is not None else bytes_per_token(plain.model)
    whole = prompt.tokens is None and not prompt.left_out
    return RequestFacts(
        endpoint=endpoint,
        model=plain.model,
        stream=stream,
        system_key=_key(plain.model, prompt.head),
        prompt_tokens=max(1, int((len(prompt.text) + prompt.left_out or len(body)) / ratio)),
        hides_usage=hides_usage,
        body=_asking_for_usage(body, plain.stream_options is not msgspec.UNSET) if hides_usage else body,
        blocks=chain(b"%b\0%b" % ((plain.model or "").encode(), plain.cache_salt), prompt.text),
        block_tokens=BLOCK_BYTES / ratio,
        prompt_bytes=len(prompt.text) if whole else 0,
        tail=prompt.text[len(prompt.text) // BLOCK_BYTES * BLOCK_BYTES :] if whole else None,
        session=session,
        resumable=stream and resumable(endpoint.shape, plain),
        shows_ids=asks_ids(plain),
    )


def _read(shape: Shape, body: bytes) -> tuple[Plain, Prompt]:
    """The body, and its prompt in the order in which the replica's chat template puts it."""
    if not body:
        raise BadRequest("the request has no body; a JSON object was expected")
    long = len(body) > LONG_BYTES
    match shape:
        case Shape.CHAT:
            chat = _talk(CHAT, LOOSE_CHAT, body)
            return chat, _conversation(chat.messages, chat.tools, long=long)
        case Shape.MESSAGE:
            message = _talk(MESSAGE, LOOSE_MESSAGE, body)
            turns: list[Turn | LooseTurn] = [LooseTurn("system", message.system), *message.messages]
            return message, _conversation(turns, message.tools, long=long)
        case Shape.RESPONSE:
            response = decode(RESPONSE, body)
            system = Turn("system", response.instructions)
            return response, _conversation([system, *_items(response.input)], response.tools, long=long)
        case Shape.COMPLETION:
            asked = decode(COMPLETION, body)
            return asked, _completed(asked.prompt, HEAD_BYTES)
        case Shape.EMBEDDING:
            embedding = decode(EMBEDDING, body)
            return embedding, _embedded(embedding)
        case Shape.SCORE:
            score = decode(SCORE, body)
            return score, _pair(score)
        case _:
            return decode(PLAIN, body), Prompt()


_Talk = TypeVar("_Talk", bound=Chat)


def _talk(usual: msgspec.json.Decoder[_Talk], loose: msgspec.json.Decoder[Any], body: bytes) -> _Talk:
    talk: _Talk = decode(loose, body) if worth_clipping(body) else decode(usual, body, loose)
    return talk


def _spoken(turns: Sequence[Turn | LooseTurn]) -> list[tuple[str, bytes]]:
    """Role and content of each message that says anything, the tool calls of an assistant behind what it said."""
    spoken = []
    for turn in turns:
        content = turn.content
        text = content.encode() if type(content) is str else said(content)
        if turn.tool_calls:
            text += plain_json(turn.tool_calls)
        if text:
            spoken.append((turn.role, text))
    return spoken


def _items(raw: msgspec.Raw) -> list[LooseTurn]:
    """The turns of a Responses input: a text is the user's; what is no list of messages counts by its JSON."""
    if is_text(raw):
        return [LooseTurn("user", raw)]
    try:
        return TURNS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [LooseTurn("user", raw)]


def _conversation(turns: Sequence[Turn | LooseTurn], tools: msgspec.Raw, *, long: bool) -> Prompt:
    """Applications have their system messages in common, without such the beginning of what is said first.

    `long`: the turns may be more than is hashed; then they are cut.
    """
    count, left_out = shorten(turns) if long else (len(turns), 0)
    spoken = _spoken(turns[:count] if left_out else turns)
    if not spoken:
        return Prompt()
    system = b"".join([text for role, text in spoken if role in SYSTEM_ROLES])
    head = system or spoken[0][1][:HEAD_BYTES]
    return conversation(spoken, tools=plain_json(tools), head=head, left_out=left_out)


def _completed(raw: msgspec.Raw, head_bytes: int) -> Prompt:
    ids, ids_left_out = clipped_ids(raw)
    if ids_left_out:
        return completion(ids, head_bytes=head_bytes, left_out=ids_left_out * ID_BYTES)
    text, left_out = clipped_text(raw)
    return completion(text, head_bytes=head_bytes, left_out=left_out)


def _embedded(body: Embedding) -> Prompt:
    if body.input:
        return _completed(body.input, 0)
    spoken = _conversation(_items(body.messages), ABSENT, long=len(body.messages) > LONG_BYTES)
    return Prompt(text=spoken.text, left_out=spoken.left_out)


def _pair(score: Score) -> Prompt:
    first = score.query or score.queries or score.text_1 or score.data_1
    second = score.documents or score.text_2 or score.data_2
    return Prompt(text=said(first) + b"\0" + said(second) if first or second else b"")


def _key(model: str | None, prompt: bytes) -> int | None:
    if not prompt:
        return None
    return xxhash.xxh3_64_intdigest(prompt, seed=xxhash.xxh3_64_intdigest((model or "").encode()))


def asking_for_ids(body: bytes) -> bytes:
    """The body with vLLM's `return_token_ids` set; every other value keeps its bytes. Of two equal names the last
    counts."""
    return _with_last(body, b',"return_token_ids":true')


def _with_last(body: bytes, field: bytes) -> bytes:
    """The object with one more field, copied once."""
    end = body.rindex(b"}")
    return b"".join((memoryview(body)[:end], field, body[end:]))


def _asking_for_usage(body: bytes, has_options: bool) -> bytes:
    """The body with `stream_options.include_usage` set; every other value keeps its bytes."""
    if not has_options:
        return _with_last(body, b',"stream_options":{"include_usage":true}')
    fields = decode(FIELDS, body)
    options = decode(OPTIONS, bytes(fields.get("stream_options", b"null"))) or {}
    options["include_usage"] = msgspec.Raw(b"true")
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return msgspec.json.encode(fields)


def _parse_form(
    endpoint: Endpoint, content_type: bytes, body: bytes, session: str | None, aliases: Mapping[str, str]
) -> RequestFacts:
    fields = form_fields(content_type, body, ("model", "stream"))
    model = fields.get("model")
    served = aliases.get(model or "")
    if served is not None:
        model = served
        body = form_with_model(content_type, body, served)
    return RequestFacts(
        endpoint=endpoint,
        model=model,
        stream=fields.get("stream", "").lower() in ("true", "1"),
        system_key=None,
        prompt_tokens=max(1, int(len(body) / BYTES_PER_TOKEN)),
        hides_usage=False,
        body=body,
        session=session,
    )
