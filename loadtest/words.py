"""Made-up text, the same in every run: characters, documents, tools. A word is about one and a half tokens."""

import random
from functools import cache
from itertools import accumulate
from typing import Any

WORDS = (
    "harbor", "lantern", "winter", "market", "river", "stone", "captain", "letter", "garden", "quiet", "engine",
    "mountain", "copper", "window", "silver", "bridge", "autumn", "signal", "shadow", "engineer", "ancient",
    "forest", "kitchen", "ticket", "merchant", "ocean", "village", "promise", "northern", "thunder", "candle",
    "library", "travel", "secret", "morning", "blanket", "hunter", "castle", "violin", "orchard", "compass",
    "island", "painter", "festival", "journey", "whisper", "granite", "meadow", "railway", "balance", "courage",
    "dragon", "emerald", "factory", "glacier", "horizon",
)  # fmt: skip


def prose(rng: random.Random, words: int) -> str:
    """Sentences of 6 to 14 words."""
    sentences = []
    while words > 0:
        length = min(words, rng.randint(6, 14))
        sentences.append(" ".join(rng.choices(WORDS, k=length)).capitalize() + ".")
        words -= length
    return " ".join(sentences)


class Zipf:
    """Draws from 0 to n-1: the i-th is asked for as often as 1 / (i+1)^s, as popular things are."""

    def __init__(self, n: int, s: float = 1.1) -> None:
        self._range = range(n)
        self._weights = list(accumulate(1 / (i + 1) ** s for i in range(n)))

    def draw(self, rng: random.Random) -> int:
        return rng.choices(self._range, cum_weights=self._weights)[0]

    @classmethod
    @cache
    def of(cls, n: int) -> "Zipf":
        """The same for all who draw from n."""
        return cls(n)


@cache
def persona(number: int) -> str:
    """A character's system prompt: who it is, its world, how it speaks; some 900 words."""
    rng = random.Random(f"character {number}")
    name = f"{rng.choice(WORDS)} {rng.choice(WORDS)}".title()
    return (
        f"You are {name}, a character in a game. Stay in your role. Answer in one or two spoken sentences.\n"
        f"Who you are: {prose(rng, 300)}\nYour world: {prose(rng, 450)}\nHow you speak: {prose(rng, 120)}"
    )


@cache
def passage(number: int) -> str:
    """A passage that a search has found: some 220 words."""
    rng = random.Random(f"passage {number}")
    return f"[{number}] {prose(rng, 220)}"


@cache
def tools() -> list[dict[str, Any]]:
    """A dozen functions with their descriptions, as an agent brings them to every request."""
    rng = random.Random("tools")
    return [
        {
            "type": "function",
            "function": {
                "name": f"{verb}_{rng.choice(WORDS)}",
                "description": prose(rng, 40),
                "parameters": {
                    "type": "object",
                    "properties": {
                        rng.choice(WORDS): {"type": "string", "description": prose(rng, 12)},
                        "limit": {"type": "integer", "description": prose(rng, 8)},
                    },
                },
            },
        }
        for verb in ("read", "write", "search", "list", "run", "fetch", "open", "close", "edit", "test", "plan", "ask")
    ]
