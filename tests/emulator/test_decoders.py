"""Blocks are due exactly when a sequence outgrows those it has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulator.engine import EngineModel
from tests.emulator.engine_lab import H100, drain, request


@given(st.integers(1, 70), st.integers(1, 70), st.booleans())
def test_a_sequence_holds_the_blocks_of_its_computed_tokens(prompt: int, output: int, milestones_only: bool) -> None:
    """In each decode step: those of the prompt, of what was generated before and of the token being computed."""
    model = EngineModel(H100, milestones_only=milestones_only)
    model.submit(request("a", prompt, output), 0.0)
    at = 0.0
    for generated in range(1, output):
        while not model._scheduler.running or model._scheduler.generated(model._scheduler.running["a"]) < generated:
            at += 0.001
            model.advance(at)
        assert model.kv_usage * 25_000 == pytest.approx(-(-(prompt + generated) // 16))
    drain(model)
    assert model.kv_usage == 0.0
