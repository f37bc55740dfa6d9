"""What vLLM's pages say, of today and of two years ago."""

from pathlib import Path

import pytest

from gateway.core.vitals import EngineFigures
from gateway.engines import DIALECTS

GOLDEN = Path(__file__).parent / "golden"
VLLM = DIALECTS["vllm"]


def test_todays_page() -> None:
    """vLLM 0.32, as captured; capacity is blocks times block size."""
    assert VLLM.read((GOLDEN / "vllm_0_32.prom").read_bytes(), 0.0) == EngineFigures(
        kv_usage_ratio=0.0,
        kv_capacity_tokens=4096 * 128,
        running=0,
        waiting=0,
        preemptions=0,
        prefix_queried_tokens=7436,
        prefix_hit_tokens=0,
        started_at=1795548529.32,
    )


def test_an_old_page() -> None:
    """The names with `gpu_`, before the label `engine`."""
    assert VLLM.read((GOLDEN / "vllm_0_6.prom").read_bytes(), 0.0) == EngineFigures(
        kv_usage_ratio=0.9731,
        kv_capacity_tokens=27000 * 16,
        running=12,
        waiting=3,
        preemptions=5,
        prefix_queried_tokens=4000,
        prefix_hit_tokens=2500,
        started_at=1.73e9,
    )


def test_the_new_name_goes_first() -> None:
    """Some releases show both."""
    page = b"vllm:gpu_cache_usage_perc 0.1\nvllm:kv_cache_usage_perc 0.2\n"
    assert VLLM.read(page, 0.0) == EngineFigures(kv_usage_ratio=0.2)


def test_several_engine_cores_are_one_replica() -> None:
    """Counts and capacities add up, the usage is their mean."""
    page = "".join(
        f'vllm:num_requests_running{{engine="{i}",model_name="m"}} {i + 1}\n'
        f'vllm:kv_cache_usage_perc{{engine="{i}",model_name="m"}} {usage}\n'
        f'vllm:cache_config_info{{block_size="16",engine="{i}",num_gpu_blocks="100"}} 1\n'
        for i, usage in enumerate((0.2, 0.4))
    )
    figures = VLLM.read(page.encode(), 0.0)
    assert figures is not None
    assert (figures.running, figures.kv_capacity_tokens) == (3, 3200)
    assert figures.kv_usage_ratio == pytest.approx(0.3)


@pytest.mark.parametrize(
    "line",
    [
        "vllm:kv_cache_usage_perc NaN",
        "vllm:kv_cache_usage_perc -0.1",
        "vllm:kv_cache_usage_perc 1.5",
        "vllm:kv_cache_usage_perc +Inf",
        "vllm:kv_cache_usage_perc 1_0",
        "vllm:kv_cache_usage_perc",
        'vllm:kv_cache_usage_perc{engine="0} 0.5',
        'vllm:kv_cache_usage_perc{engine="0",engine="0"} 0.5',
        'vllm:kv_cache_usage_perc{engine="0"} 0.5\nvllm:kv_cache_usage_perc{engine="0"} 0.6',
        "vllm:kv_cache_usage_perc 0.5 1000",
    ],
)
def test_a_figure_that_cannot_be_is_not_known(line: str) -> None:
    """Nor is one from a line that is broken, stands twice, or is of an hour ago. The others are."""
    figures = VLLM.read(f"{line}\nvllm:num_requests_waiting 2\n".encode(), 4600.0)
    assert figures == EngineFigures(waiting=2)


def test_half_a_line_is_not_half_the_value() -> None:
    """0.97 cut short is not 0.9."""
    assert VLLM.read(b"vllm:num_requests_waiting 2\nvllm:kv_cache_usage_perc 0.9", 0.0) == EngineFigures(waiting=2)


@pytest.mark.parametrize("blocks", ["None", "", "9" * 5000, "-1", "0"])
def test_a_capacity_that_is_none(blocks: str) -> None:
    """vLLM writes `None` for what it has not settled."""
    page = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{blocks}"}} 1\n'
    assert VLLM.read(page.encode(), 0.0) == EngineFigures()


@pytest.mark.parametrize("page", [b"", b"<html><body>502</body></html>", b"process_start_time_seconds 1\n", b"\xff\n"])
def test_no_page_of_vllm(page: bytes) -> None:
    """That is no reading at all."""
    assert VLLM.read(page, 0.0) is None
