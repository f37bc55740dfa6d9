"""A fleet, and what happens to it, as asked for on a command line."""

import pytest

from gateway.lab.setup import FOREVER, Kill, Setup, Throttle, pairs, span


def test_throttles_and_deaths() -> None:
    assert Throttle.parse("2@20-40:clock=0.4,memory=0.7") == Throttle(2, 20.0, 40.0, 0.4, 0.7)
    assert Throttle.parse("r0@1.5-:memory=0.5") == Throttle(0, 1.5, FOREVER, 1.0, 0.5)
    assert Kill.parse("3@30-60") == Kill(3, 30.0, 60.0)
    assert Kill.parse("3@30-") == Kill(3, 30.0, FOREVER)


@pytest.mark.parametrize("text", ["", "x", "1@2", "1@5-4:clock=1", "1@2-3:clock", "1@2-3:heat=1", "1@2-3:clock=0"])
def test_a_throttle_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected REPLICA@FROM-TO:clock=SHARE,memory=SHARE such as"):
        Throttle.parse(text)


@pytest.mark.parametrize("text", ["", "1", "1@", "1@2", "1@5-4", "-1@2-3", "1@..-3"])
def test_a_death_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected REPLICA@FROM-TO such as"):
        Kill.parse(text)


def test_lists_repeat() -> None:
    setup = Setup(replicas=3, speeds=(1.0, 0.5), kv_tokens=(1000,))
    assert [setup.speed(n) for n in range(3)] == [1.0, 0.5, 1.0]
    assert [setup.kv(n) for n in range(3)] == [1000] * 3
    assert (Setup().speed(3), Setup().kv(3)) == (1.0, 400_000)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replicas": 0}, "at least 1 replica"),
        ({"gateways": 0}, "at least 1 replica and 1 gateway"),
        ({"speeds": (1.0, 0.0)}, "speeds must be above 0"),
        ({"kv_tokens": (8,)}, "at least one block of 16"),
        ({"delay_s": -1.0}, "at least 0 s"),
        ({"kills": (Kill(4, 0, 1),)}, "no replica 4: the first of 4 is 0"),
        ({"throttles": (Throttle(9, 0, 1),)}, "no replica 9"),
    ],
)
def test_what_cannot_be(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Setup(**wrong)  # type: ignore[arg-type]


def test_pairs_and_spans() -> None:
    assert pairs("b=2,a=1", ("a", "b"), "") == {"a": 1.0, "b": 2.0}
    assert span("1", "", "") == (1.0, FOREVER)
    for text in ("a=x", "a=-1", "a=nan", "a=inf", "c=1"):
        with pytest.raises(ValueError, match="expected so"):
            pairs(text, ("a", "b"), "expected so")
