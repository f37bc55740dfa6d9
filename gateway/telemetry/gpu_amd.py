"""AMD's device-metrics-exporter (ROCm), MI300 and later. Pure.

Source: its list of metrics and its documentation of arrays and labels; operators may put `amd_` before each name.
"""

from collections.abc import Iterable, Mapping

from gateway.core.vitals import GpuSample, Reason
from gateway.engines.exposition import Sample
from gateway.telemetry.gpu_rows import Row, hosts, index, pods, rows

CLOCK = "gpu_clock"
CORE_CLOCKS = frozenset({"system", "GPU_CLOCK_TYPE_SYSTEM"})
TEMP = "gpu_junction_temperature"
MEMORY_TEMP = "gpu_memory_temperature"
POWER = ("gpu_package_power", "gpu_power_usage", "gpu_average_package_power")
BUSY = "gpu_gfx_activity"
TOTALS = {
    "gpu_violation_processor_hot_residency_accumulated": Reason.HW_THERMAL,
    "gpu_violation_socket_thermal_residency_accumulated": Reason.SW_THERMAL,
    "gpu_violation_vr_thermal_residency_accumulated": Reason.HW_THERMAL,
    "gpu_violation_hbm_thermal_residency_accumulated": Reason.MEMORY_THERMAL,
    "gpu_violation_ppt_residency_accumulated": Reason.POWER_CAP,
}
"""They rise while it is so. What is not supported is the largest number of 64 bits, which no count can be."""

_PLAIN = (CLOCK, TEMP, MEMORY_TEMP, *POWER, BUSY, *TOTALS)
PREFIX = "amd_"
NAMES = (*_PLAIN, *(PREFIX + name for name in _PLAIN))


def gpus(samples: Iterable[Sample], host: str | None, wall: float) -> list[GpuSample]:
    """One for each GPU on the page. `host`: the machine's name in the config."""
    plain = (
        Sample(sample.name.removeprefix(PREFIX), sample.labels, sample.value, sample.at)
        for sample in samples
        if not sample.name.endswith(CLOCK) or sample.labels.get("clock_type") in CORE_CLOCKS
    )
    return [_gpu(row, host) for row in rows(plain, _key, wall)]


def _key(labels: Mapping[str, str]) -> str | None:
    """A partitioned GPU has a line for each partition."""
    number = labels.get("gpu_id")
    return number and f"{labels.get('hostname', '')} {labels.get('instance', '')} {number}"


def _gpu(row: Row, host: str | None) -> GpuSample:
    busy = row.most(BUSY)
    totals: dict[Reason, float] = {}
    for name, reason in TOTALS.items():
        total = row.most(name)
        if total is not None:
            totals[reason] = totals.get(reason, 0.0) + total
    return GpuSample(
        uuid=row.label("gpu_uuid"),
        hosts=hosts(row, host),
        index=index(row.label("gpu_id")),
        pods=pods(row),
        model=row.label("card_model"),
        temp_c=row.most(TEMP),
        memory_temp_c=row.most(MEMORY_TEMP) or None,
        power_w=row.most(*POWER),
        clock_mhz=row.most(CLOCK),
        busy_ratio=None if busy is None else busy / 100,
        totals=totals,
    )
