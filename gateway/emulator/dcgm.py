"""The page of NVIDIA's dcgm-exporter, line by line as it writes them. Source: etc/default-counters.csv there."""

from collections.abc import Callable, Iterable

from gateway.emulator.gpu import GpuReadings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MODEL_NAME = "NVIDIA H100 80GB HBM3"
HOSTNAME = "emulated"

_FIELDS: tuple[tuple[str, str, str, Callable[[GpuReadings], str]], ...] = (
    ("SM_CLOCK", "gauge", "SM clock frequency (in MHz).", lambda gpu: f"{gpu.sm_mhz}"),
    ("MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", lambda gpu: f"{gpu.mem_mhz}"),
    ("MEMORY_TEMP", "gauge", "Memory temperature (in C).", lambda gpu: f"{gpu.hbm_c}"),
    ("GPU_TEMP", "gauge", "GPU temperature (in C).", lambda gpu: f"{gpu.core_c}"),
    ("POWER_USAGE", "gauge", "Power draw (in W).", lambda gpu: f"{gpu.power_w:f}"),
    (
        "TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
        lambda gpu: f"{gpu.energy_mj}",
    ),
    ("GPU_UTIL", "gauge", "GPU utilization (in %).", lambda gpu: f"{round(gpu.util * 100)}"),
    ("XID_ERRORS", "gauge", "Value of the last XID error encountered.", lambda gpu: f"{gpu.xid}"),
    ("CLOCKS_EVENT_REASONS", "gauge", "Current clock event reasons (bitmask).", lambda gpu: f"{gpu.reasons}"),
)
"""The last one is not in the exporter's default list: operators add it, to see throttling at all."""


def page(gpus: Iterable[tuple[int, GpuReadings]]) -> bytes:
    """`/metrics` for these GPUs, by index."""
    looks = [(_labels(index), readings) for index, readings in gpus]
    lines = []
    for name, kind, text, read in _FIELDS:
        lines += [f"# HELP DCGM_FI_DEV_{name} {text}", f"# TYPE DCGM_FI_DEV_{name} {kind}"]
        lines += [f"DCGM_FI_DEV_{name}{{{labels}}} {read(readings)}" for labels, readings in looks]
    return "\n".join([*lines, ""]).encode()


def uuid(index: int) -> str:
    return f"GPU-{index:08x}-0000-4000-8000-000000000000"


def _labels(index: int) -> str:
    slot, board = index % 8, index // 8
    values = {
        "gpu": str(index),
        "UUID": uuid(index),
        "pci_bus_id": f"{board:08X}:{0x18 + 0x10 * slot:02X}:00.0",
        "device": f"nvidia{index}",
        "modelName": MODEL_NAME,
        "Hostname": HOSTNAME,
    }
    return ",".join(f'{name}="{value}"' for name, value in values.items())
