"""What dcgm-exporter's pages say."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.vitals import GpuSample, Reason
from gateway.engines.exposition import samples
from gateway.telemetry.gpu_dcgm import NAMES, gpus

GOLDEN = Path(__file__).parent / "golden"


def read(page: bytes | str, host: str | None = None, wall: float = 0.0) -> list[GpuSample]:
    return gpus(samples(page if isinstance(page, bytes) else page.encode(), NAMES), host, wall)


def test_a_page_with_reasons() -> None:
    """Four GPUs of two pods: well, at the power cap, hot, idle."""
    found = read((GOLDEN / "dcgm_h100.prom").read_bytes())
    assert [gpu.reasons for gpu in found] == [
        frozenset(),
        {Reason.POWER_CAP},
        {Reason.SW_THERMAL, Reason.HW_THERMAL},
        {Reason.IDLE},
    ]
    hot = found[2]
    assert hot.names == {"00000002-1111-2222-3333-444444444444", "node-a:2", "llm/vllm-1"}
    assert (hot.temp_c, hot.memory_temp_c, hot.power_w, hot.clock_mhz, hot.busy_ratio) == (87, 96, 431.7, 1230, 1.0)
    assert (hot.model, hot.top_clock_mhz, hot.xid, hot.lost) == ("NVIDIA H100 80GB HBM3", None, 0, None)


def test_the_old_name_says_the_same() -> None:
    """Before DCGM 3.3."""
    new, old = (read((GOLDEN / f"dcgm_h100{kind}.prom").read_bytes()) for kind in ("", "_oldnames"))
    assert [gpu.reasons for gpu in old] == [gpu.reasons for gpu in new]


def test_the_default_counters_tell_no_reasons() -> None:
    """Unknown, and not none."""
    found = read((GOLDEN / "dcgm_h100_default_csv.prom").read_bytes())
    assert [gpu.reasons for gpu in found] == [None] * 4
    assert not any(gpu.recent or gpu.totals for gpu in found)
    assert found[2].temp_c == 87


def test_violations_are_totals() -> None:
    """Where they are switched on."""
    found = read((GOLDEN / "dcgm_h100.prom").read_bytes())
    assert set(found[2].totals) == {Reason.SW_THERMAL, Reason.POWER_CAP}


def test_the_instances_of_a_mig_gpu_are_one_gpu() -> None:
    """With the pods of all of them; counts of a window are told apart from reasons."""
    (gpu,) = read((GOLDEN / "dcgm_mig.prom").read_bytes())
    assert gpu.pods == {"llm/vllm-0", "llm/vllm-1"}
    assert (gpu.clock_mhz, gpu.temp_c, gpu.reasons) == (1410, 51, None)
    assert gpu.recent == {Reason.SW_THERMAL: 7, Reason.IDLE: 0}


def test_the_configs_host_goes_first() -> None:
    """A container's host name may be anything."""
    (gpu,) = read((GOLDEN / "dcgm_mig.prom").read_bytes(), host="node1")
    assert gpu.hosts == {"node1"}


def line(value: str, name: str = "DCGM_FI_DEV_GPU_TEMP", labels: str = 'gpu="0",UUID="GPU-a",Hostname="n"') -> str:
    return f"{name}{{{labels}}} {value}\n"


@pytest.mark.parametrize("value", ["NaN", "-5", "1e300", "x", "50 1000"])
def test_a_figure_that_cannot_be(value: str) -> None:
    """Is not known; a line of another hour is not there at all."""
    found = read(line(value) + line("1980", "DCGM_FI_DEV_SM_CLOCK"), wall=7200.0)
    assert found == [replace(found[0], temp_c=None, clock_mhz=1980.0)]


def test_one_series_told_twice() -> None:
    """Nobody knows which is right."""
    (gpu,) = read(line("50") + line("60"))
    assert gpu.temp_c is None


@pytest.mark.parametrize("labels", ['gpu="x",UUID="GPU-a"', 'UUID="GPU-a"', 'gpu="-1",UUID="GPU-a",Hostname="n"'])
def test_wrong_labels(labels: str) -> None:
    """An index that is none names nothing; the UUID still does."""
    (gpu,) = read(line("50", labels=labels))
    assert gpu.names == {"a"}


def test_lines_without_a_gpu() -> None:
    """They tell of nothing."""
    assert read(line("50", labels='Hostname="n"')) == []
    assert read("<html>\n") == []


def test_without_a_uuid() -> None:
    """Host and number tell GPUs apart."""
    found = read(line("50", labels='gpu="0",Hostname="a"') + line("60", labels='gpu="0",Hostname="b"'))
    assert [gpu.key for gpu in found] == ["a:0", "b:0"]
