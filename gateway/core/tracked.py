"""The relay's eyes for a stream that another replica may have to continue: they also keep what it carries."""

from typing import Any

import msgspec

from gateway.core.carry import Carry
from gateway.core.decoding import UNREADABLE
from gateway.core.events import Reader
from gateway.core.relay import StreamRelay
from gateway.core.sse import data_of
from gateway.core.stencil import IdsStencil, without_ids


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None

    @property
    def plain(self) -> bool:
        """Whether it holds nothing but text."""
        return not (self.reasoning or self.reasoning_content or self.refusal or self.tool_calls or self.function_call)


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    prompt_token_ids: list[int] | None = None


_chunk = msgspec.json.Decoder(_Chunk)
_encode = msgspec.json.encode


class TrackedRelay(StreamRelay):
    """A `StreamRelay` that fills a `Carry`: with text, and with token ids if the replica was asked for them.

    Ids go on to the client only if it asked for them itself (`shows_ids`).
    """

    __slots__ = ("_holes", "_shows_ids", "carry")

    def __init__(self, read: Reader, *, hide_usage: bool, wants_ids: bool, shows_ids: bool = False) -> None:
        super().__init__(read, hide_usage=hide_usage)
        self.carry = Carry(exact=wants_ids)
        self._shows_ids = shows_ids
        self._holes = IdsStencil(show=shows_ids)

    def _known(self, event: bytes) -> bytes | None:
        carry = self.carry
        if carry.lost:
            return self._stencil.read(event)
        if not carry.exact:
            shown = self._stencil.read(event)
            if shown is not None:
                carry.add(self._stencil.text_in(event), b"")
            return shown
        found = self._holes.read(event)
        if found is None:
            return None
        text, ids, shown = found
        carry.add(text, ids)
        return shown

    def _look(self, event: bytes) -> bool:
        shown = super()._look(event)
        if self.failed is None and not self.carry.lost:
            data = data_of(event)
            if data is not None and data != b"[DONE]":
                self._keep(data)
        return shown

    def _learn(self, event: bytes) -> None:
        if self.carry.exact and not self.carry.lost:
            self._holes.cut(event)
        elif self._show(event) == event:
            super()._learn(event)

    def _show(self, event: bytes) -> bytes:
        return event if self._shows_ids or not self.carry.exact else without_ids(event)

    def _keep(self, data: bytes) -> None:
        """What one event that goes on to the client adds to the carry."""
        carry = self.carry
        try:
            chunk = _chunk.decode(data)
        except UNREADABLE:
            carry.lost = True
            return
        if not chunk.choices:
            return
        choice = chunk.choices[0]
        delta = choice.delta
        text = (delta.content if delta is not None else choice.text) or ""
        prompt = chunk.prompt_token_ids or choice.prompt_token_ids
        if prompt and carry.prompt is None:
            carry.prompt = _encode(prompt)
        if not carry.sample:
            carry.sample = data
        if (
            len(chunk.choices) > 1
            or (delta is not None and not delta.plain)
            or (self.carry.exact and text and (carry.prompt is None or not choice.token_ids))
        ):
            carry.lost = True
        carry.add(_encode(text)[1:-1], _encode(choice.token_ids)[1:-1] if choice.token_ids else b"")
