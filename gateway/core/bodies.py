"""The bodies of requests, as far as the gateway reads them; msgspec decodes them and passes over the rest."""

import re

import msgspec

from gateway.core.endpoints import Shape

ABSENT = msgspec.Raw()
# A prompt's values are kept raw and read one by one: whatever a replica may accept there is not ours to refuse.


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Plain(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | msgspec.UnsetType | None = msgspec.UNSET
    cache_salt: msgspec.Raw = ABSENT

    @property
    def asks_usage(self) -> bool:
        """Whether the client wants the usage event of a stream."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Generating(Plain, kw_only=True):
    """What makes of an answer more than one plain text, or makes its rest depend on more than what came before it."""

    n: msgspec.Raw = ABSENT
    best_of: msgspec.Raw = ABSENT
    logprobs: msgspec.Raw = ABSENT
    top_logprobs: msgspec.Raw = ABSENT
    prompt_logprobs: msgspec.Raw = ABSENT
    response_format: msgspec.Raw = ABSENT
    structured_outputs: msgspec.Raw = ABSENT
    guided_json: msgspec.Raw = ABSENT
    guided_regex: msgspec.Raw = ABSENT
    guided_choice: msgspec.Raw = ABSENT
    guided_grammar: msgspec.Raw = ABSENT
    presence_penalty: msgspec.Raw = ABSENT
    frequency_penalty: msgspec.Raw = ABSENT
    use_beam_search: msgspec.Raw = ABSENT
    functions: msgspec.Raw = ABSENT
    modalities: msgspec.Raw = ABSENT
    audio: msgspec.Raw = ABSENT
    echo: msgspec.Raw = ABSENT
    suffix: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT
    return_token_ids: msgspec.Raw = ABSENT

    @property
    def plain(self) -> bool:
        """Whether none of them is set to anything but what it is by default."""
        counts = (self.n, self.best_of)
        others = (
            self.logprobs, self.top_logprobs, self.prompt_logprobs, self.response_format, self.structured_outputs,
            self.guided_json, self.guided_regex, self.guided_choice, self.guided_grammar, self.presence_penalty,
            self.frequency_penalty, self.use_beam_search, self.functions, self.modalities, self.audio, self.echo,
            self.suffix, self.tools,
        )  # fmt: skip
        return all(not value or bytes(value) in _ONE for value in counts) and (
            others == _NONE_SET or all(not value or bytes(value) in _NOTHING for value in others)
        )


_NONE_SET = (ABSENT,) * 18
_ONE = frozenset((b"1", b"null"))
_NOTHING = frozenset((b"null", b"false", b"0", b"0.0", b"[]", b'""', b'{"type":"text"}', b'{"type": "text"}'))


class Turn(msgspec.Struct):
    role: str
    content: str | list[msgspec.Raw] | None = None
    tool_calls: msgspec.Raw = ABSENT


class LooseTurn(msgspec.Struct):
    """A turn whose content is none of what the API has; the replica is to say so."""

    role: str
    content: msgspec.Raw = ABSENT
    tool_calls: msgspec.Raw = ABSENT


class Chat(Generating, kw_only=True):
    messages: list[Turn]


class Completion(Generating, kw_only=True):
    prompt: msgspec.Raw = ABSENT


class Response(Plain):
    instructions: str | None = None
    input: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT


class Message(Chat, kw_only=True):
    system: msgspec.Raw = ABSENT


class LooseChat(Chat, kw_only=True):
    messages: list[LooseTurn]  # type: ignore[assignment]


class LooseMessage(Message, kw_only=True):
    messages: list[LooseTurn]  # type: ignore[assignment]


class Embedding(Plain):
    input: msgspec.Raw = ABSENT
    messages: msgspec.Raw = ABSENT


class Score(Plain):
    """vLLM takes a pair of texts under several names; the first of each pair is what requests have in common."""

    query: msgspec.Raw = ABSENT
    queries: msgspec.Raw = ABSENT
    text_1: msgspec.Raw = ABSENT
    data_1: msgspec.Raw = ABSENT
    documents: msgspec.Raw = ABSENT
    text_2: msgspec.Raw = ABSENT
    data_2: msgspec.Raw = ABSENT


PLAIN = msgspec.json.Decoder(Plain)
CHAT = msgspec.json.Decoder(Chat)
COMPLETION = msgspec.json.Decoder(Completion)
RESPONSE = msgspec.json.Decoder(Response)
MESSAGE = msgspec.json.Decoder(Message)
EMBEDDING = msgspec.json.Decoder(Embedding)
SCORE = msgspec.json.Decoder(Score)
LOOSE_CHAT = msgspec.json.Decoder(LooseChat)
LOOSE_MESSAGE = msgspec.json.Decoder(LooseMessage)
TURNS = msgspec.json.Decoder(list[LooseTurn])
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
OPTIONS = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


def asks_ids(asked: Plain) -> bool:
    """Whether the client itself wants to be told token ids."""
    return isinstance(asked, Generating) and bytes(asked.return_token_ids) == b"true"


def resumable(shape: Shape, asked: Plain) -> bool:
    """Whether the answer will be one plain text that depends on nothing but its prompt and what it says itself."""
    if not isinstance(asked, Generating) or not asked.plain:
        return False
    if asked.stream_options and asked.stream_options.continuous_usage_stats:
        return False
    match shape:
        case Shape.CHAT if isinstance(asked, Chat):
            return all(isinstance(turn.content, str) or _is_text(turn.content) for turn in asked.messages)
        case Shape.COMPLETION if isinstance(asked, Completion):
            return _ONE_PROMPT.match(asked.prompt) is not None
    return False


_CONTENT: msgspec.json.Decoder[str | list[msgspec.Raw] | None] = msgspec.json.Decoder(str | list[msgspec.Raw] | None)
_ONE_PROMPT = re.compile(rb'"|\[\s*\d')
_TEXT_PART = re.compile(rb'^"|"type"\s*:\s*"(?:text|input_text)"')


def _is_text(content: list[msgspec.Raw] | msgspec.Raw | None) -> bool:
    """Whether a content in parts is all text: of pictures and sounds, token ids tell only their places."""
    if content is None:
        return True
    if isinstance(content, msgspec.Raw):
        try:
            read = _CONTENT.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        return not isinstance(read, list) or _is_text(read)
    return isinstance(content, list) and all(_TEXT_PART.search(part) is not None for part in content)


def longest_stop(body: bytes) -> int:
    """Characters of the longest stop string; 0 without any."""
    stop = _STOPS.decode(body).stop
    return max(map(len, [stop] if isinstance(stop, str) else stop or []), default=0)


def begun_stop(body: bytes, told: str) -> int:
    """Characters at the end of what was `told` with which a stop string may have begun; 0 where it is not to be shown,
    for then vLLM holds them back."""
    asked = _STOPS.decode(body)
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    begun = [size for stop in stops for size in range(1, len(stop)) if told.endswith(stop[:size])]
    return max(begun, default=0) if asked.include_stop_str_in_output else 0


class _Stops(msgspec.Struct):
    stop: str | list[str] | None = None
    include_stop_str_in_output: bool | None = None


_STOPS = msgspec.json.Decoder(_Stops)
