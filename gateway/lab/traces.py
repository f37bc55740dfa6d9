"""Who asks what and when: traces made from a seed.

They are open-loop: a turn comes a reading time after its reply could have been ready at 50 tokens a second,
whether or not the replica was that fast. All of them are a function of the `Random` passed in and nothing else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate, count
from math import log
from random import Random

from gateway.emulator.engine import EngineRequest
from gateway.lab.text import ENGINE_TOKENS, INDEX_TOKENS, Text

TOKENS_PER_S = 50.0
"""How fast a reply is assumed to come when the next turn is timed."""
CONTEXT_TOKENS = 32_000
"""A conversation ends before its prompt and reply would exceed this."""


@dataclass(frozen=True, slots=True)
class TraceItem:
    """One request. `blocks`, `output_blocks`: for the engine; `index_blocks`, `reply_index_blocks`: for the gateway.

    `session`: `None` if the trace does not tell. `system_prompt`: what a router by system prompt would hash.
    """

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]
    output_blocks: tuple[int, ...]
    index_blocks: tuple[int, ...]
    reply_index_blocks: tuple[int, ...]
    session: str | None
    system_prompt: str

    def engine_request(self, name: str, *, priority: int = 0) -> EngineRequest:
        return EngineRequest(
            name, self.blocks, self.prompt_tokens, self.output_tokens, priority, output_blocks=self.output_blocks
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What the sessions of a trace are like. Means, in tokens and seconds.

    `prompts`: length of each system prompt, `weights`: how often each is used. `turns`: geometric, at least 1.
    `asked` and `replied`: lognormal medians with sigma 0.7. `pause_s`: exponential, between a reply and the next turn.
    """

    prompts: tuple[int, ...]
    weights: tuple[float, ...]
    turns: float
    asked: int
    replied: int
    pause_s: float

    @property
    def session_s(self) -> float:
        """How long a session of mean length lasts."""
        return self.turns * (self.pause_s + self.replied / TOKENS_PER_S)

    @property
    def lead_s(self) -> float:
        """How long before time 0 sessions have to begin, so that the rate is steady from there on."""
        return 4 * self.session_s


def characters(rng: Random, *, rate_per_s: float, duration_s: float, population: int = 100) -> list[TraceItem]:
    """Role play: zipf popularity over characters with system prompts of 1.5k to 3k tokens, several turns each."""
    return _sessions(rng, character_shape(rng, zipf(population)), rate_per_s, duration_s)


def hot_character(
    rng: Random, *, rate_per_s: float, duration_s: float, share: float = 0.6, population: int = 100
) -> list[TraceItem]:
    """The same, with `share` of the sessions on one character and the rest by zipf over the others."""
    others = zipf(population - 1)
    weights = (share, *((1 - share) * weight / sum(others) for weight in others))
    return _sessions(rng, character_shape(rng, weights), rate_per_s, duration_s)


def chat(rng: Random, *, rate_per_s: float, duration_s: float) -> list[TraceItem]:
    """An assistant: three short system prompts, conversations of a few turns, longer replies."""
    shape = Shape((150, 400, 900), (6.0, 3.0, 1.0), turns=3.0, asked=80, replied=250, pause_s=20.0)
    return _sessions(rng, shape, rate_per_s, duration_s)


def agents(rng: Random, *, rate_per_s: float, duration_s: float) -> list[TraceItem]:
    """Five agents with long tool lists: many turns, quick ones, each with a tool's output to read."""
    prompts = tuple(rng.randint(3000, 6000) for _ in range(5))
    shape = Shape(prompts, (5.0, 4.0, 3.0, 2.0, 1.0), turns=12.0, asked=500, replied=90, pause_s=2.0)
    return _sessions(rng, shape, rate_per_s, duration_s)


def rag(rng: Random, *, rate_per_s: float, duration_s: float, documents: int = 500, found: int = 3) -> list[TraceItem]:
    """Questions on retrieved documents, zipf popular, in the order of the ranking: mostly the first one is shared."""
    lengths = [rng.randint(300, 900) for _ in range(documents)]
    weights = list(accumulate(1 / rank for rank in range(1, documents + 1)))
    items = []
    fresh = count(documents + 1)
    for number, at in enumerate(poisson(rng, rate_per_s, 0.0, duration_s)):
        text = Text()
        text.add(0, 300)
        # As a dict: drawing a document twice does not put it there twice.
        for document in dict.fromkeys(rng.choices(range(documents), cum_weights=weights, k=found)):
            text.add(document + 1, lengths[document])
        text.add(next(fresh), _lognormal(rng, 40))
        items.append(_turn(text, next(fresh), _lognormal(rng, 150), at, f"q{number}", "rag"))
    return items


GENERATORS: Mapping[str, Callable[..., list[TraceItem]]] = {
    "characters": characters,
    "hot_character": hot_character,
    "rag": rag,
    "chat": chat,
    "agents": agents,
}
"""Name → generator(rng, rate_per_s=, duration_s=), in order of arrival."""


def zipf(population: int) -> tuple[float, ...]:
    """How popular each of so many is, the first the most, as weights."""
    return tuple(1 / rank for rank in range(1, population + 1))


def character_shape(rng: Random, weights: tuple[float, ...]) -> Shape:
    """Sessions of role play with as many characters as there are weights; their prompts' lengths are drawn."""
    prompts = tuple(rng.randint(1500, 3000) for _ in weights)
    return Shape(prompts, weights, turns=5.0, asked=40, replied=120, pause_s=12.0)


def _sessions(rng: Random, shape: Shape, rate_per_s: float, duration_s: float) -> list[TraceItem]:
    """Sessions begin before time 0, so that the rate is steady from the start; what came before 0 is left out."""
    return list(sessions(rng, shape, poisson(rng, rate_per_s / shape.turns, -shape.lead_s, duration_s), duration_s))


def sessions(rng: Random, shape: Shape, starts: Iterable[float], duration_s: float) -> Iterator[TraceItem]:
    """Requests from 0 to before `duration_s`, in order of arrival, of sessions that begin at these times.

    `starts` may draw from `rng` as it goes. Nothing is kept but the sessions under way.
    """
    fresh = count(len(shape.prompts))
    order = count()
    coming: list[tuple[float, int, TraceItem]] = []
    for number, at in enumerate(starts):
        while coming and coming[0][0] <= at:
            yield heappop(coming)[2]
        topic = rng.choices(range(len(shape.prompts)), weights=shape.weights)[0]
        for item in _session(rng, shape, topic, at, f"s{number}", fresh):
            if 0 <= item.arrival_s < duration_s:
                heappush(coming, (item.arrival_s, next(order), item))
    while coming:
        yield heappop(coming)[2]


def _session(rng: Random, shape: Shape, topic: int, at: float, name: str, fresh: Iterator[int]) -> Iterator[TraceItem]:
    text = Text()
    text.add(topic, shape.prompts[topic])
    while True:
        text.add(next(fresh), _lognormal(rng, shape.asked))
        output = _lognormal(rng, shape.replied)
        if text.tokens + output > CONTEXT_TOKENS:
            return
        yield _turn(text, next(fresh), output, at, name, f"p{topic}")
        if rng.random() * shape.turns < 1:
            return
        at += output / TOKENS_PER_S + rng.expovariate(1 / shape.pause_s)


def _turn(text: Text, reply: int, output: int, at: float, session: str, system_prompt: str) -> TraceItem:
    """A request with the text so far; the reply is part of the text afterwards."""
    prompt = text.tokens
    blocks, index_blocks = text.engine_blocks(), text.index_blocks()
    text.add(reply, output)
    replied = text.engine_blocks(prompt // ENGINE_TOKENS)
    indexed = text.index_blocks(prompt // INDEX_TOKENS)
    return TraceItem(at, prompt, output, blocks, replied, index_blocks, indexed, session, system_prompt)


def poisson(rng: Random, rate_per_s: float, start: float, end: float) -> Iterator[float]:
    """Random moments, so many a second on average, drawn one after the other."""
    at = start
    while (at := at + rng.expovariate(rate_per_s)) < end:
        yield at


def _lognormal(rng: Random, median: int) -> int:
    return max(1, min(20 * median, round(rng.lognormvariate(log(median), 0.7))))


def popularity(items: Sequence[TraceItem]) -> dict[str, float]:
    """Share of the requests that each system prompt has, the most popular first."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item.system_prompt] = counts.get(item.system_prompt, 0) + 1
    return {key: counts[key] / len(items) for key in sorted(counts, key=counts.__getitem__, reverse=True)}
