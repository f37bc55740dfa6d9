"""A request's body, read as far as routing needs it. The bytes themselves go on unchanged."""

from collections.abc import Callable, Mapping, Sequence

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
    Embedding,
    LooseTurn,
    Plain,
    Score,
    Turn,
    asks_ids,
    resumable,
)
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
    `tail`: the prompt's bytes behind its last whole block, where the reply would follow.
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
    tail: bytes = b""
    session: str | None = None
    resumable: bool = False
    shows_ids: bool = False

    def blocks_with(self, reply: str) -> tuple[int, ...]:
        """The blocks of the next turn's prompt, which begins with this one's and with the reply: all that a replica
        holds when it has answered."""
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
    return RequestFacts(
        endpoint=endpoint,
        model=plain.model,
        stream=stream,
        system_key=_key(plain.model, prompt.head),
        prompt_tokens=max(1, int((len(prompt.text) or len(body)) / ratio)),
        hides_usage=hides_usage,
        body=_asking_for_usage(body, plain.stream_options is not None) if hides_usage else body,
        blocks=chain(b"%b\0%b" % ((plain.model or "").encode(), plain.cache_salt), prompt.text),
        block_tokens=BLOCK_BYTES / ratio,
        prompt_bytes=len(prompt.text) if prompt.tokens is None else 0,
        tail=prompt.text[len(prompt.text) // BLOCK_BYTES * BLOCK_BYTES :] if prompt.tokens is None else b"",
        session=session,
        resumable=stream and resumable(endpoint.shape, plain),
        shows_ids=asks_ids(plain),
    )


def _read(shape: Shape, body: bytes) -> tuple[Plain, Prompt]:
    """The body, and its prompt in the order in which the replica's chat template puts it."""
    if not body:
        raise BadRequest("the request has no body; a JSON object was expected")
    match shape:
        case Shape.CHAT:
            chat = decode(CHAT, body, LOOSE_CHAT)
            return chat, _conversation(_spoken(chat.messages), chat.tools)
        case Shape.MESSAGE:
            message = decode(MESSAGE, body, LOOSE_MESSAGE)
            system = ("system", said(message.system))
            return message, _conversation([system, *_spoken(message.messages)], message.tools)
        case Shape.RESPONSE:
            response = decode(RESPONSE, body)
            system = ("system", (response.instructions or "").encode())
            return response, _conversation([system, *_items(response.input)], response.tools)
        case Shape.COMPLETION:
            asked = decode(COMPLETION, body)
            return asked, completion(asked.prompt, head_bytes=HEAD_BYTES)
        case Shape.EMBEDDING:
            embedding = decode(EMBEDDING, body)
            return embedding, _embedded(embedding)
        case Shape.SCORE:
            score = decode(SCORE, body)
            return score, _pair(score)
        case _:
            return decode(PLAIN, body), Prompt()


def _spoken(messages: Sequence[Turn | LooseTurn]) -> list[tuple[str, bytes]]:
    """Role and content of each message, the tool calls of an assistant behind what it said."""
    return [
        (turn.role, said(turn.content) + plain_json(turn.tool_calls) if turn.tool_calls else said(turn.content))
        for turn in messages
    ]


def _items(raw: msgspec.Raw) -> list[tuple[str, bytes]]:
    """The turns of a Responses input: a text is the user's; what is no list of messages counts by its JSON."""
    try:
        return _spoken(TURNS.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = said(raw)
        return [("user", text)] if text else []


def _conversation(turns: list[tuple[str, bytes]], tools: msgspec.Raw) -> Prompt:
    """Applications have their system messages in common, without such the beginning of what is said first."""
    system = b"".join([text for role, text in turns if role in SYSTEM_ROLES])
    head = system or next((text for _, text in turns if text), b"")[:HEAD_BYTES]
    spoken = [turn for turn in turns if turn[1]]
    return conversation(spoken, tools=plain_json(tools), head=head) if spoken else Prompt()


def _embedded(body: Embedding) -> Prompt:
    if body.input:
        return completion(body.input, head_bytes=0)
    return Prompt(text=_conversation(_items(body.messages), ABSENT).text)


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
    end = body.rindex(b"}")
    return b'%b,"return_token_ids":true%b' % (body[:end], body[end:])


def _asking_for_usage(body: bytes, has_options: bool) -> bytes:
    """The body with `stream_options.include_usage` set; every other value keeps its bytes."""
    if not has_options and b'"stream_options"' not in body:
        end = body.rindex(b"}")  # of two equal names the last counts: here it is ours, however the other is spelt
        return b'%b,"stream_options":{"include_usage":true}%b' % (body[:end], body[end:])
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
