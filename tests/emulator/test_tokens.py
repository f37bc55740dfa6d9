from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from gateway.emulator import tokens
from gateway.emulator.text import write


@given(st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    """decode(encode(text)) is the text, for all that UTF-8 can hold."""
    assert tokens.decode(tokens.encode(text)) == text


@given(st.lists(st.integers(0, tokens.VOCABULARY - 1)))
def test_every_id_has_bytes_of_at_most_a_word(ids: list[int]) -> None:
    """No id of the vocabulary is refused by the decoder."""
    assert all(len(tokens.token_bytes(token)) <= 20 for token in ids)


def test_english_takes_about_four_bytes_a_token() -> None:
    """So that sizes of prompts are believable."""
    text = "The capital of France is Paris, and it has been the largest city of the country for many centuries. " * 20
    assert 3 < len(text) / len(tokens.encode(text)) < 5


def test_texts_that_share_a_beginning_share_ids() -> None:
    """A prefix cache finds the shared part of two prompts."""
    shared = "You are a helpful assistant who answers briefly. " * 10
    first, second = tokens.encode(shared + "What is a river?"), tokens.encode(shared + "Name three bridges.")
    common = len(tokens.encode(shared)) - 2
    assert first[:common] == second[:common]


@given(st.lists(st.integers(0, 999), max_size=80), st.lists(st.integers(0, 999), max_size=80))
def test_blocks_are_equal_exactly_as_far_as_the_ids(one: list[int], other: list[int]) -> None:
    """Block hashes are chained: the n-th equals iff all ids up to its end do."""
    pairs = zip(tokens.blocks(one, 16), tokens.blocks(other, 16), strict=False)
    for index, (a, b) in enumerate(pairs, start=1):
        assert (a == b) == (one[: 16 * index] == other[: 16 * index])


def test_only_full_blocks_count() -> None:
    """31 ids have one block, and another salt makes it another."""
    ids = list(range(31))
    assert len(tokens.blocks(ids, 16)) == 1
    assert tokens.blocks(ids, 16) != tokens.blocks(ids, 16, "salt")


@given(st.integers(0, 1000), st.sampled_from(["m", "n"]))
def test_an_answers_text_has_the_answers_ids(seed: int, model: str) -> None:
    """Read again, as a part of the next turn's prompt, it is the same to a prefix cache."""
    ids = tuple(islice(write(model, (seed,), eos_after=float("inf")), 60))
    whole = ids[:-1] if ids[-1] == tokens.pack(b"\xf0\x9f") else ids
    assert tokens.encode(tokens.decode(whole)) == whole
