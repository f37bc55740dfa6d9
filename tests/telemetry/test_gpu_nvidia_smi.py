"""What nvidia_gpu_exporter's pages say, under both generations of names."""

from pathlib import Path

import pytest

from gateway.core.vitals import GpuSample, Reason
from gateway.engines.exposition import samples
from gateway.telemetry.gpu_nvidia_smi import NAMES, gpus

GOLDEN = Path(__file__).parent / "golden"


def read(page: bytes) -> list[GpuSample]:
    return gpus(samples(page, NAMES), "node1", 0.0)


@pytest.mark.parametrize("generation", ["", "_newnames"])
def test_both_generations(generation: str) -> None:
    """Clocks are in Hz there; UUIDs lack their prefix."""
    fine, hot = read((GOLDEN / f"nvidia_gpu_exporter{generation}.prom").read_bytes())
    assert (fine.reasons, hot.reasons) == (frozenset(), {Reason.SW_THERMAL, Reason.HW_THERMAL})
    assert (hot.clock_mhz, hot.top_clock_mhz, hot.temp_c, hot.power_w) == (1230, 1980, 87, 431.7)
    assert hot.names == {"00000001-1111-2222-3333-444444444444"}


def test_the_index_is_a_series() -> None:
    """With it, and the config's host, a GPU has its second name."""
    page = b'nvidia_smi_index{uuid="a"} 3\nnvidia_smi_gpu_info{uuid="a",name="NVIDIA L4",index="3"} 1\n'
    (gpu,) = read(page)
    assert (gpu.names, gpu.model) == ({"a", "node1:3"}, "NVIDIA L4")


def test_a_card_without_reasons() -> None:
    """GeForce cards show none: not known."""
    (gpu,) = read(b'nvidia_smi_temperature_gpu{uuid="a"} 40\nnvidia_smi_clocks_event_reasons_active{uuid="a"} NaN\n')
    assert (gpu.reasons, gpu.temp_c) == (None, 40)


def test_flags_of_which_some_are_not_known() -> None:
    """Those that are count."""
    page = (
        b'nvidia_smi_clocks_event_reasons_hw_slowdown{uuid="a"} NaN\n'
        b'nvidia_smi_clocks_event_reasons_hw_power_brake_slowdown{uuid="a"} 1\n'
        b'nvidia_smi_utilization_gpu_ratio{uuid="a"} 0.5\n'
    )
    (gpu,) = read(page)
    assert (gpu.reasons, gpu.busy_ratio) == ({Reason.POWER_BRAKE}, 0.5)
