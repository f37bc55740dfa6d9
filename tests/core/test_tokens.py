"""Bytes per token, learned."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens import BYTES_PER_TOKEN, HIGHEST, LOWEST, MAX_MODELS, MIN_BYTES, TokenRatios


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(-1, 10**6)), max_size=50))
def test_it_stays_within_its_bounds(seen: list[tuple[int, int]]) -> None:
    """Whatever replicas report, a token is between one and eight bytes."""
    ratios = TokenRatios()
    for prompt_bytes, tokens in seen:
        ratios.learn("m", prompt_bytes, tokens)
        assert LOWEST <= ratios.bytes_per_token("m") <= HIGHEST


def test_it_comes_to_what_is_reported() -> None:
    """Slowly, and for this model only."""
    ratios = TokenRatios()
    ratios.learn("m", 2000, 1000)
    assert 3.9 < ratios.bytes_per_token("m") < BYTES_PER_TOKEN
    for _ in range(300):
        ratios.learn("m", 2000, 1000)
    assert abs(ratios.bytes_per_token("m") - 2) < 0.02
    assert ratios.bytes_per_token("other") == ratios.bytes_per_token(None) == BYTES_PER_TOKEN
    assert repr(ratios).startswith("<TokenRatios {'m': 2.0")


def test_short_prompts_teach_nothing() -> None:
    """There the chat template weighs as much as the text; a count of none is no count."""
    ratios = TokenRatios()
    ratios.learn("m", MIN_BYTES - 1, MIN_BYTES - 1)
    ratios.learn("m", 1000, 0)
    assert ratios.bytes_per_token("m") == BYTES_PER_TOKEN


def test_memory_is_bounded() -> None:
    """Names come from clients: more models than there can be are not learned."""
    ratios = TokenRatios()
    for i in range(MAX_MODELS + 5):
        ratios.learn(f"m{i}", 1000, 1000)
    assert ratios.bytes_per_token("m0") < BYTES_PER_TOKEN
    assert ratios.bytes_per_token(f"m{MAX_MODELS}") == BYTES_PER_TOKEN
