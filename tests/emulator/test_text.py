from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from gateway.emulator import tokens
from gateway.emulator.text import Limits, compose, write

PROMPTS = st.lists(st.integers(0, tokens.FIRST_WORD + len(tokens.WORDS) - 1), min_size=1, max_size=30)


@given(PROMPTS, st.integers(0, 40))
def test_prompt_and_output_ids_give_the_exact_rest(prompt: list[int], seam: int) -> None:
    """Wherever a stream is cut, going on from the ids so far continues it token by token."""
    whole = list(islice(write("m", prompt, eos_after=float("inf")), 60))
    assert list(islice(write("m", prompt + whole[:seam], eos_after=float("inf")), 60 - seam)) == whole[seam:]


@given(PROMPTS)
def test_answers_end_by_themselves(prompt: list[int]) -> None:
    """EOS comes sooner or later, brings no text, and is counted as a token."""
    answer = compose(write("m", prompt), Limits(10_000))
    assert answer.finish_reason == "stop"
    assert answer.ids[-1] == tokens.EOS
    assert answer.pieces[-1] == ""


def test_answers_differ_by_model_prompt_and_choice() -> None:
    """Nothing is said twice by accident."""

    def text(model: str, prompt: list[int], branch: int = 0) -> str:
        return compose(write(model, prompt, branch=branch), Limits(32)).text

    assert len({text("a", [1]), text("b", [1]), text("a", [2]), text("a", [1], 1)}) == 4


def test_some_characters_take_two_tokens() -> None:
    """The first half of an emoji brings out nothing; an answer cut there does not show it."""
    ids = list(islice(write("m", [1], eos_after=float("inf")), 500))
    head = next(at for at, token in enumerate(ids) if tokens.token_bytes(token) == b"\xf0\x9f")
    answer = compose(iter(ids), Limits(head + 2))
    assert answer.pieces[head] == ""
    assert ord(answer.pieces[head + 1]) > 0xFFFF
    assert "\ufffd" not in compose(iter(ids), Limits(head + 1)).text


def test_a_stop_string_ends_the_text_before_it() -> None:
    """It may lie across tokens; its beginning is held back and never told."""
    ids = tokens.encode("one two three four")
    answer = compose(iter(ids), Limits(99, stops=("o th",)))
    assert (answer.text, answer.finish_reason, answer.stop_reason) == ("one tw", "stop", "o th")


def test_a_stop_string_can_be_included() -> None:
    """As with vLLM's include_stop_str_in_output."""
    answer = compose(iter(tokens.encode("one two three")), Limits(99, stops=("two",), include_stop=True))
    assert answer.text == "one two"


def test_under_stop_strings_ids_run_ahead_of_the_text() -> None:
    """Four characters are held back for a stop string of five, and come out at the end."""
    ids = [*tokens.encode(" the of and"), tokens.EOS]
    answer = compose(iter(ids), Limits(99, stops=("xxxxx",)))
    assert answer.pieces[0] == ""
    assert answer.text == " the of and"


def test_min_tokens_forbids_an_early_end() -> None:
    """Neither EOS nor a stop string ends an answer before them."""
    answer = compose(iter(tokens.encode(" the the the the")), Limits(4, min_tokens=3, stops=("the",)))
    assert len(answer.ids) == 4


@given(PROMPTS, st.integers(1, 30))
def test_pieces_join_to_the_text_of_the_ids(prompt: list[int], count: int) -> None:
    """What is streamed is what the ids decode to, but for a character that was cut."""
    answer = compose(write("m", prompt, eos_after=float("inf")), Limits(count))
    assert tokens.decode(answer.ids).rstrip("\ufffd") == answer.text
