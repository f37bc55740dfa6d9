"""What a replica answers: a pure function of model and token ids, so every byte can be checked.

Each next token depends on all ids before it and on nothing else: prompt ids + output ids give the exact rest.
"""

import codecs
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import xxhash

from gateway.emulator import tokens

_SENTENCE_ODDS, _EOS_ODDS, _EMOJI_ODDS = 16, 8, 24
_EMOJI_HEAD = tokens.pack(b"\xf0\x9f")
_EMOJI_TAILS = tuple(tokens.pack(tail.encode()[2:]) for tail in "😀😎🚀🌍🐍🔥🎉🧊")


@dataclass(frozen=True, slots=True)
class Answer:
    """`pieces[i]` is the text that token `ids[i]` brings out: empty while a character or a stop string is pending."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def cut(self, count: int, finish_reason: str) -> "Answer":
        """The answer as it stands after `count` tokens, ended for another reason."""
        return replace(
            self, ids=self.ids[:count], pieces=self.pieces[:count], finish_reason=finish_reason, stop_reason=None
        )


def write(model: str, prompt: Sequence[int], *, branch: int = 0, eos_after: float = 0) -> Iterator[int]:
    """The tokens after the prompt; EOS may come after `eos_after` tokens (inf: never). `branch`: which of `n`."""
    state = xxhash.xxh3_64(model.encode(), seed=branch)
    state.update(tokens.id_bytes(prompt))
    last = prompt[-1] if prompt else tokens.BOS
    for count in itertools.count():
        token = _next(state.intdigest(), last, count < eos_after)
        yield token
        if token == tokens.EOS:
            return
        state.update(token.to_bytes(8, "little"))
        last = token


def _next(draw: int, last: int, no_eos: bool) -> int:
    if last == _EMOJI_HEAD:
        return _EMOJI_TAILS[draw % len(_EMOJI_TAILS)]
    draw, odds = divmod(draw, _EOS_ODDS)
    if last == tokens.SENTENCE_END and odds == 0 and not no_eos:
        return tokens.EOS
    draw, odds = divmod(draw, _SENTENCE_ODDS)
    if odds == 0:
        return tokens.SENTENCE_END
    draw, odds = divmod(draw, _EMOJI_ODDS)
    return _EMOJI_HEAD if odds == 0 else tokens.FIRST_WORD + draw % len(tokens.WORDS)


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends. `include_stop`: the stop string stays in the text."""

    max_tokens: int
    min_tokens: int = 0
    stops: tuple[str, ...] = ()
    include_stop: bool = False


def compose(source: Iterator[int], limits: Limits, primed: bytes = b"") -> Answer:
    """Collect tokens until EOS, a stop string or the limit. `primed`: bytes whose text comes out first.

    Under stop strings the last `longest - 1` characters are held back, as vLLM does, so ids run ahead of the text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, shown = decoder.decode(primed), 0
    hold = 0 if limits.include_stop else max((len(stop) for stop in limits.stops), default=1) - 1
    ids: list[int] = []
    pieces: list[str] = []
    for token in source:
        before = len(text)
        text += decoder.decode(tokens.token_bytes(token))
        ids.append(token)
        stop = _stop_in(text, before, limits) if len(ids) > limits.min_tokens else None
        ended = stop is not None or token == tokens.EOS or len(ids) >= limits.max_tokens
        if stop is not None:
            text = text[: stop[1]]
        visible = len(text) if ended else max(shown, len(text) - hold)
        pieces.append(text[shown:visible])
        shown = visible
        if ended:
            break
    if stop is not None:
        return Answer(tuple(ids), tuple(pieces), "stop", stop[0])
    return Answer(tuple(ids), tuple(pieces), "stop" if ids[-1] == tokens.EOS else "length")


def _stop_in(text: str, before: int, limits: Limits) -> tuple[str, int] | None:
    """The first listed stop string that the newest characters complete, and where the text is cut for it."""
    for stop in limits.stops:
        at = text.find(stop, max(0, before - len(stop) + 1))
        if at >= 0:
            return stop, at + len(stop) if limits.include_stop else at
    return None
