"""What SGLang's page says."""

from pathlib import Path

from gateway.core.vitals import EngineFigures
from gateway.engines import DIALECTS

PAGE = (Path(__file__).parent / "golden" / "sglang.prom").read_bytes()


def test_a_page() -> None:
    """The ranks of a tensor-parallel group say the same, and count once; sources of cached tokens add up."""
    assert DIALECTS["sglang"].read(PAGE, 0.0) == EngineFigures(
        kv_usage_ratio=0.28,
        kv_capacity_tokens=161721,
        running=162,
        waiting=2826,
        preemptions=7,
        prefix_queried_tokens=8128902,
        prefix_hit_tokens=4000000,
    )


def test_another_engines_page() -> None:
    """A replica that is configured as SGLang and is none."""
    assert DIALECTS["sglang"].read(b"vllm:num_requests_running 1\n", 0.0) is None
