"""What AMD's exporter's page says."""

from pathlib import Path

from gateway.core.gpu import Gpus
from gateway.core.vitals import GpuSample, Reason
from gateway.engines.exposition import samples
from gateway.telemetry.gpu_amd import NAMES, gpus

PAGE = (Path(__file__).parent / "golden" / "amd_exporter.prom").read_bytes()


def read(page: bytes) -> list[GpuSample]:
    return gpus(samples(page, NAMES), None, 0.0)


def test_a_page() -> None:
    """Violations are totals, by what was violated."""
    cool, hot = read(PAGE)
    assert (cool.names, hot.names) == ({"node-b:0"}, {"node-b:1"})
    assert (hot.temp_c, hot.memory_temp_c, hot.power_w, hot.reasons) == (99, 93, 748, None)
    assert hot.totals == {Reason.HW_THERMAL: 0, Reason.POWER_CAP: 400, Reason.SW_THERMAL: 52000}


def test_what_rises_is_at_work() -> None:
    """Between two looks; how much slower that makes it is not known without a clock."""
    seen = Gpus(stale_after_s=10.0)
    seen.look("amd", read(PAGE), 1.0)
    seen.look("amd", read(PAGE.replace(b" 52000", b" 53000")), 2.0)
    (hot,) = seen.views(["node-b:1"], 2.0)
    assert (hot.reasons, hot.slowdown) == ({Reason.SW_THERMAL}, None)


def test_what_it_does_not_support_is_not_known() -> None:
    """The largest number of 64 bits."""
    (gpu,) = read(
        b'gpu_violation_vr_thermal_residency_accumulated{gpu_id="0",hostname="n"} 18446744073709551615\n'
        b'gpu_violation_hbm_thermal_residency_accumulated{gpu_id="0",hostname="n"} 4\n'
    )
    assert gpu.totals == {Reason.MEMORY_THERMAL: 4}


def test_prefix_clocks_and_partitions() -> None:
    """`amd_` before each name; of many clocks that of the cores; a partitioned GPU is one GPU."""
    (gpu,) = read(
        b'amd_gpu_clock{gpu_id="3",clock_index="0",clock_type="system",gpu_partition_id="0",hostname="n"} 2100\n'
        b'amd_gpu_clock{gpu_id="3",clock_index="0",clock_type="system",gpu_partition_id="1",hostname="n"} 1900\n'
        b'amd_gpu_clock{gpu_id="3",clock_index="9",clock_type="memory",hostname="n"} 3000\n'
        b'amd_gpu_gfx_activity{gpu_id="3",gpu_uuid="72ff740f",hostname="n"} 50\n'
        b'amd_gpu_power_usage{gpu_id="3",hostname="n"} 600\n'
        b'amd_gpu_power_usage{hostname="n"} 1\n'
    )
    assert (gpu.clock_mhz, gpu.busy_ratio, gpu.power_w) == (2100, 0.5, 600)
    assert gpu.names == {"72ff740f", "n:3"}
