"""What a step costs, and the closed form of many."""

from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulator.cost import EngineParams, StepCost, steps_within, stretch_s

sizes = st.integers(0, 10_000)


@given(sizes, sizes, sizes, sizes, sizes, st.sampled_from(EngineParams.NAMES))
def test_more_work_never_takes_less_time(
    tokens: int, more: int, sequences: int, kv: int, pairs: int, name: str
) -> None:
    cost = StepCost(EngineParams.named(name))
    least = cost.step_s(tokens, sequences, kv, pairs)
    assert least > 0
    assert cost.step_s(tokens + more, sequences, kv, pairs) >= least
    assert cost.step_s(tokens, sequences + more, kv, pairs) >= least
    assert cost.step_s(tokens, sequences, kv + more, pairs) >= least
    assert cost.step_s(tokens, sequences, kv, pairs + more) >= least


@given(st.floats(1e-3, 1.0), st.integers(0, 256), st.integers(1, 500), st.floats(0.0, 1.1), st.floats(0.0, 1e4))
def test_the_closed_form_counts_as_the_sum_does(
    first_s: float, decodes: int, steps: int, share: float, start: float
) -> None:
    """Up to rounding: at a time that is not within a microsecond of a step's end."""
    growth_s = decodes * 48e-9
    ends = list(accumulate(first_s + i * growth_s for i in range(steps)))
    assert stretch_s(steps, first_s, growth_s) == pytest.approx(ends[-1])
    elapsed = share * ends[-1]
    if all(abs(end - elapsed) > 1e-6 for end in ends) and share <= 1:
        ended = sum(end <= elapsed for end in ends)
        assert steps_within(start, start + elapsed, first_s, growth_s) == ended


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kv_tokens": 15}, "one block"),
        ({"block_tokens": 0}, "one block"),
        ({"max_sequences": 0}, "max_sequences"),
        ({"max_batched_tokens": 255}, "max_sequences"),
        ({"step_fixed_s": 0.0, "weights_s": 0.0}, "some time"),
    ],
)
def test_impossible_parameters_are_refused(changes: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(EngineParams(), **changes)  # type: ignore[arg-type]
