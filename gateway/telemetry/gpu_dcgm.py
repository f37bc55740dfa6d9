"""NVIDIA's dcgm-exporter, with its default counters or with the reasons added. Pure.

Source: its etc/default-counters.csv and clock events collector, and DCGM's field identifiers.
"""

from collections.abc import Iterable, Mapping

from gateway.core.gpu import reasons_of
from gateway.core.vitals import GpuSample, Reason
from gateway.engines.exposition import Sample
from gateway.telemetry.gpu_rows import Row, hosts, index, pods, rows

CLOCK = "DCGM_FI_DEV_SM_CLOCK"
TOP_CLOCK = "DCGM_FI_DEV_MAX_SM_CLOCK"
TEMP = "DCGM_FI_DEV_GPU_TEMP"
MEMORY_TEMP = "DCGM_FI_DEV_MEMORY_TEMP"
POWER = "DCGM_FI_DEV_POWER_USAGE"
BUSY = "DCGM_FI_DEV_GPU_UTIL"
XID = "DCGM_FI_DEV_XID_ERRORS"
REASONS = ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS")
EVENTS = "DCGM_EXP_CLOCK_EVENTS_COUNT"
TOTALS = {"DCGM_FI_DEV_THERMAL_VIOLATION": Reason.SW_THERMAL, "DCGM_FI_DEV_POWER_VIOLATION": Reason.POWER_CAP}
"""Time lost; releases differ in the unit, so that only a rise counts."""

NAMES = (CLOCK, TOP_CLOCK, TEMP, MEMORY_TEMP, POWER, BUSY, XID, *REASONS, EVENTS, *TOTALS)

CSV_LINES = (
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS, gauge, Current clock event reasons (bitmask).",
    "DCGM_FI_DEV_MAX_SM_CLOCK, gauge, Maximum SM clock frequency (in MHz).",
)
"""What an operator adds to the exporter's counters: without the first line no throttling shows. Before DCGM 3.3 it was
called DCGM_FI_DEV_CLOCK_THROTTLE_REASONS."""


def gpus(samples: Iterable[Sample], host: str | None, wall: float) -> list[GpuSample]:
    """One for each GPU on the page. `host`: the machine's name in the config."""
    return [_gpu(row, host) for row in rows(samples, _key, wall)]


def _key(labels: Mapping[str, str]) -> str | None:
    number = labels.get("gpu")
    return labels.get("UUID") or labels.get("uuid") or (number and f"{labels.get('Hostname', '')} {number}")


def _gpu(row: Row, host: str | None) -> GpuSample:
    busy, xid = row.most(BUSY), row.most(XID)
    return GpuSample(
        uuid=row.label("UUID", "uuid"),
        hosts=hosts(row, host),
        index=index(row.label("gpu")),
        pods=pods(row),
        model=row.label("modelName"),
        temp_c=row.most(TEMP),
        memory_temp_c=row.most(MEMORY_TEMP) or None,  # GPUs without the sensor show 0
        power_w=row.most(POWER),
        clock_mhz=row.least(CLOCK),
        top_clock_mhz=row.most(TOP_CLOCK),
        busy_ratio=None if busy is None else busy / 100,
        reasons=reasons_of(row.mask(*REASONS)),
        recent=_known(row.by_label(EVENTS, "clock_event")),
        totals={reason: total for name, reason in TOTALS.items() if (total := row.most(name)) is not None},
        xid=None if xid is None else int(xid),
    )


def _known(events: Mapping[str, float]) -> dict[Reason, float]:
    known = set(Reason)
    return {Reason(name): count for name, count in events.items() if name in known}
