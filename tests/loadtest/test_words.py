"""Made-up text: the same for all users in all processes, so that prefixes are shared."""

import random
from collections import Counter

from loadtest.words import Zipf, passage, persona, prose, tools


def test_texts_are_the_same_in_every_run() -> None:
    """A character's prompt is its own and stable: the beginning of one that was printed once."""
    assert persona(3).startswith("You are ")
    assert persona(3) == persona.__wrapped__(3) != persona(4)
    assert passage(3) == passage.__wrapped__(3) != passage(4)
    assert tools() == tools.__wrapped__()
    assert len({tool["function"]["name"] for tool in tools()}) == 12


def test_the_length_of_prose() -> None:
    """As many words as asked for, in sentences."""
    for words in (0, 1, 5, 300):
        text = prose(random.Random(1), words)
        assert len(text.split()) == words
        assert text == "" or text.endswith(".")


def test_popular_things_are_drawn_more_often() -> None:
    """In the order of their numbers, and all of them now and then."""
    rng = random.Random(1)
    drawn = Counter(Zipf.of(5).draw(rng) for _ in range(5000))
    assert [number for number, _ in drawn.most_common()] == [0, 1, 2, 3, 4]
