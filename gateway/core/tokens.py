"""How many bytes of prompt make a token, learned for each model from the usage that its replicas report."""

from collections.abc import Iterable

BYTES_PER_TOKEN = 4.0
"""Where nothing has been learned: English text and JSON under today's tokenizers, about."""

LOWEST, HIGHEST = 1.0, 8.0
"""Bounds of what is believed: below, a token would be less than a byte; above, the prompt was not what it seemed."""

SHARE = 0.02
"""How far one request moves the average: slow, since a bias of 0.6 to 1.6 costs 2 % of p99 TTFT at most."""

MIN_BYTES = 512
"""Shorter prompts teach nothing: there the chat template weighs as much as the text."""

MAX_MODELS = 1024
"""Models beyond this are not learned: names come from clients, memory stays flat."""


class TokenRatios:
    """Bytes per token of each model: a slow average, between `LOWEST` and `HIGHEST`."""

    def __init__(self) -> None:
        self._ratios: dict[str | None, float] = {}

    def bytes_per_token(self, model: str | None) -> float:
        return self._ratios.get(model, BYTES_PER_TOKEN)

    def of_replica(self, models: Iterable[str]) -> float:
        """Of what a replica holds that serves these: the mean of those that were learned, else the usual."""
        learned = [self._ratios[model] for model in models if model in self._ratios]
        return sum(learned) / len(learned) if learned else BYTES_PER_TOKEN

    def learn(self, model: str | None, prompt_bytes: int, prompt_tokens: int) -> None:
        """A prompt of so many bytes turned out to be so many tokens."""
        if prompt_bytes < MIN_BYTES or prompt_tokens < 1:
            return
        if model not in self._ratios and len(self._ratios) >= MAX_MODELS:
            return
        seen = min(HIGHEST, max(LOWEST, prompt_bytes / prompt_tokens))
        old = self._ratios.get(model, BYTES_PER_TOKEN)
        self._ratios[model] = old + SHARE * (seen - old)

    def __repr__(self) -> str:
        return f"<TokenRatios {self._ratios}>"
