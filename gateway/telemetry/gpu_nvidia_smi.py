"""utkuozdemir's nvidia_gpu_exporter, which shows what nvidia-smi shows, under the names of both its generations. Pure.

Source: captured pages of it, public ones and those beside its tests.
"""

from collections.abc import Iterable, Mapping

from gateway.core.gpu import reasons_of
from gateway.core.vitals import GpuSample, Reason
from gateway.engines.exposition import Sample
from gateway.telemetry.gpu_rows import Row, hosts, index, pods, rows

CLOCK_HZ = "nvidia_smi_clocks_current_sm_clock_hz"
TOP_CLOCK_HZ = "nvidia_smi_clocks_max_sm_clock_hz"
TEMP = "nvidia_smi_temperature_gpu"
MEMORY_TEMP = "nvidia_smi_temperature_memory"
POWER = "nvidia_smi_power_draw_watts"
BUSY = "nvidia_smi_utilization_gpu_ratio"
INDEX = "nvidia_smi_index"
INFO = "nvidia_smi_gpu_info"
GENERATIONS = ("nvidia_smi_clocks_event_reasons_", "nvidia_smi_clocks_throttle_reasons_")
FLAGS = {
    "gpu_idle": Reason.IDLE,
    "applications_clocks_setting": Reason.CLOCKS_SETTING,
    "sw_power_cap": Reason.POWER_CAP,
    "hw_slowdown": Reason.HW_SLOWDOWN,
    "hw_thermal_slowdown": Reason.HW_THERMAL,
    "hw_power_brake_slowdown": Reason.POWER_BRAKE,
    "sw_thermal_slowdown": Reason.SW_THERMAL,
    "sync_boost": Reason.SYNC_BOOST,
}

NAMES = (
    *(CLOCK_HZ, TOP_CLOCK_HZ, TEMP, MEMORY_TEMP, POWER, BUSY, INDEX, INFO),
    *(f"{generation}{flag}" for generation in GENERATIONS for flag in ("active", *FLAGS)),
)


def gpus(samples: Iterable[Sample], host: str | None, wall: float) -> list[GpuSample]:
    """One for each GPU on the page. `host`: the machine's name in the config."""
    return [_gpu(row, host) for row in rows(samples, _key, wall)]


def _key(labels: Mapping[str, str]) -> str | None:
    return labels.get("uuid")


def _gpu(row: Row, host: str | None) -> GpuSample:
    return GpuSample(
        uuid=row.label("uuid"),
        hosts=hosts(row, host),
        index=index(row.most(INDEX)),
        pods=pods(row),
        model=row.label("name"),
        temp_c=row.most(TEMP),
        memory_temp_c=row.most(MEMORY_TEMP) or None,
        power_w=row.most(POWER),
        clock_mhz=_mhz(row.least(CLOCK_HZ)),
        top_clock_mhz=_mhz(row.most(TOP_CLOCK_HZ)),
        busy_ratio=row.most(BUSY),
        reasons=_reasons(row),
    )


def _mhz(hz: float | None) -> float | None:
    return None if hz is None else hz / 1e6


def _reasons(row: Row) -> frozenset[Reason] | None:
    """By the bit mask, or by the flags one by one. GeForce cards show neither: not known."""
    for generation in GENERATIONS:
        whole = reasons_of(row.mask(f"{generation}active"))
        if whole is not None:
            return whole
        flags = {reason: row.most(f"{generation}{flag}") for flag, reason in FLAGS.items()}
        if any(value is not None for value in flags.values()):
            return frozenset(reason for reason, value in flags.items() if value)
    return None
