"""Quantiles of gaps that are told by stretches."""

import pytest

from gateway.emulator.gaps import ItlSummary


@pytest.mark.parametrize(
    ("share", "gap"), [(0.0, 0.01), (0.5, 0.01), (0.9, 0.01), (0.91, 0.02), (0.99, 0.02), (1.0, 0.5)]
)
def test_quantiles_count_tokens_not_stretches(share: float, gap: float) -> None:
    summary = ItlSummary(((0.5, 1), (0.01, 90), (0.02, 9)))
    assert summary.quantile(share) == gap
    assert (summary.count, summary.longest_s) == (100, 0.5)


def test_no_gap_is_none() -> None:
    assert (ItlSummary(()).quantile(0.99), ItlSummary(()).longest_s) == (None, None)
