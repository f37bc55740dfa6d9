"""The prompts that a replica should know before it takes traffic: what most requests have at their beginning.

They are request bodies of clients. They stay in memory, bounded, and no repr shows them.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.core.decoding import UNREADABLE
from gateway.core.endpoints import Endpoint, Shape
from gateway.core.request import RequestFacts

MAX_PROMPTS = 256
"""Prompts kept. Sixteen are sent by default; the rest is for models that few replicas serve, and for what gets hot."""

MAX_BYTES = 8 * 1024 * 1024
"""All bodies kept, together."""

MAX_BODY_BYTES = 256 * 1024
"""A longer one is not kept: at 4 bytes a token, it alone would be all that a warm-up may send."""

MAX_SEEN = 4096
"""Beginnings remembered that came once; their bodies are kept from the second time on, so that prompts which share
nothing leave nothing."""

HALF_LIFE_S = 300.0
"""What was asked five minutes ago counts half: about as long as a busy KV cache keeps a prompt that nobody uses."""

LOWEST_PRIORITY = 1 << 30
"""vLLM's `priority`: the smaller goes first, and requests without have 0."""

_LIMITS = {
    Shape.CHAT: "max_tokens",
    Shape.COMPLETION: "max_tokens",
    Shape.MESSAGE: "max_tokens",
    Shape.RESPONSE: "max_output_tokens",
}
"""Requests that fill a KV cache which others find, and the field that limits their answer."""

_PROMPT_FIELDS = frozenset(
    {
        *("model", "messages", "prompt", "input", "instructions", "system", "tools", "tool_choice", "documents"),
        *("reasoning", "reasoning_effort", "thinking", "chat_template", "chat_template_kwargs", "cache_salt"),
        *("add_generation_prompt", "continue_final_message", "add_special_tokens", "truncate_prompt_tokens"),
        "mm_processor_kwargs",
    }
)
"""Fields that decide which tokens the prompt becomes, or in which cache they are; all else is about the answer."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ONE, _NO = msgspec.Raw(b"1"), msgspec.Raw(b"false")


@dataclass(frozen=True, slots=True)
class HotPrompt:
    """A request that began like many others, as a warm-up sends it. `tokens`: an estimate of its prompt."""

    endpoint: Endpoint
    model: str | None
    body: bytes = field(repr=False)
    blocks: tuple[int, ...] = field(repr=False)
    tokens: int

    def behind_all(self) -> bytes:
        """The body for engines that know priorities."""
        return b'%b,"priority":%d}' % (self.body[:-1], LOWEST_PRIORITY)


@dataclass(slots=True)
class _Kept:
    """`heat`: blocks that a cache with this prompt would have saved, counted down by half-lives, as of `at`."""

    prompt: HotPrompt
    heat: float
    at: float

    def heat_at(self, now: float) -> float:
        return float(self.heat * 0.5 ** ((now - self.at) / HALF_LIFE_S))


_Key = tuple[int | None, int]


class HotPrompts:
    """For each beginning that came twice, the shortest prompt that has it: what is common is in it, and little else."""

    def __init__(self) -> None:
        self._kept: dict[_Key, _Kept] = {}
        self._seen: OrderedDict[_Key, None] = OrderedDict()
        self.bytes = 0
        """Of the bodies kept."""

    def note(self, facts: RequestFacts, now: float) -> None:
        """A request was served. One whose prompt is below a block has nothing that could be found again."""
        if not facts.blocks or facts.endpoint.shape not in _LIMITS:
            return
        key = (facts.system_key, facts.blocks[0])
        kept = self._kept.get(key)
        if kept is not None:
            kept.heat = kept.heat_at(now) + common(kept.prompt.blocks, facts.blocks)
            kept.at = now
            if facts.prompt_tokens < kept.prompt.tokens:
                self._shorten(kept, facts)
        elif key in self._seen:
            self._keep(key, facts, now)
        else:
            self._seen[key] = None
            if len(self._seen) > MAX_SEEN:
                self._seen.popitem(last=False)

    def hottest(self, models: Collection[str], now: float, *, prompts: int, tokens: int) -> list[HotPrompt]:
        """The hottest for a replica that serves these models, so many at most, and not more tokens in all."""
        able = [kept for kept in self._kept.values() if kept.prompt.model is None or kept.prompt.model in models]
        chosen: list[HotPrompt] = []
        for kept in sorted(able, key=lambda kept: -kept.heat_at(now)):
            if len(chosen) < prompts and kept.prompt.tokens <= tokens:
                chosen.append(kept.prompt)
                tokens -= kept.prompt.tokens
        return chosen

    def forget(self, prompt: HotPrompt) -> None:
        """It did no good. If it is asked for again, it is kept again."""
        for key, kept in self._kept.items():
            if kept.prompt is prompt:
                self._drop(key)
                return

    def _keep(self, key: _Key, facts: RequestFacts, now: float) -> None:
        prompt = _prompt(facts)
        if prompt is None:
            return
        del self._seen[key]
        self._kept[key] = _Kept(prompt, float(len(facts.blocks)), now)
        self.bytes += len(prompt.body)
        while len(self._kept) > MAX_PROMPTS or self.bytes > MAX_BYTES:
            self._drop(min(self._kept, key=lambda key: self._kept[key].heat_at(now)))

    def _shorten(self, kept: _Kept, facts: RequestFacts) -> None:
        prompt = _prompt(facts)
        if prompt is not None and len(prompt.body) <= len(kept.prompt.body):
            self.bytes += len(prompt.body) - len(kept.prompt.body)
            kept.prompt = prompt

    def _drop(self, key: _Key) -> None:
        self.bytes -= len(self._kept.pop(key).prompt.body)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<HotPrompts {len(self)} of {self.bytes} bytes>"


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Leading blocks that two chains share. Each hash stands for all before it, so that halving finds the place."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[middle - 1] == other[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


def _prompt(facts: RequestFacts) -> HotPrompt | None:
    """The same prompt, for one token, whole. `None` if it is too long, or was not read as far as this when parsed."""
    if len(facts.body) > MAX_BODY_BYTES:
        return None
    try:
        given = _fields.decode(facts.body)
    except UNREADABLE:
        return None
    fields = {name: value for name, value in given.items() if name in _PROMPT_FIELDS}
    fields |= {_LIMITS[facts.endpoint.shape]: _ONE, "stream": _NO}
    return HotPrompt(facts.endpoint, facts.model, msgspec.json.encode(fields), facts.blocks, facts.prompt_tokens)
