"""What one GPU of a replica would show of itself: clocks, heat, power, and why it is throttled. Pure.

An H100 in round figures, not calibrated: what matters is which reading moves, and which does not. All in the engine's
time, so that joules per token come out right at any speed.
"""

from dataclasses import dataclass
from math import exp
from typing import Literal

Cause = Literal["thermal", "power_cap", "hbm"]

SM_MHZ, IDLE_SM_MHZ, MEM_MHZ = 1980, 345, 2619
IDLE_W, FULL_W = 70.0, 650.0
HOT_C, WARM_HBM_C, HOT_HBM_C = 88.0, 92.0, 97.0
HBM_ABOVE_CORE_C = 12.0
SETTLING_S = 4.0
"""Time constant with which temperatures follow the load."""

GPU_IDLE, SW_POWER_CAP, SW_THERMAL, HW_THERMAL = 0x1, 0x4, 0x20, 0x40
"""NVML's nvmlClocksEventReason bits, which DCGM's are too."""

_BITS: dict[Cause | None, int] = {None: 0, "thermal": SW_THERMAL | HW_THERMAL, "power_cap": SW_POWER_CAP, "hbm": 0}


@dataclass(frozen=True, slots=True)
class GpuReadings:
    """One look. `util`: share of the time since the look before in which a step was under way, 0 to 1."""

    sm_mhz: int
    mem_mhz: int
    core_c: int
    hbm_c: int
    power_w: float
    energy_mj: int
    util: float
    xid: int
    reasons: int


class Gpu:
    """`clock`, `memory`: shares of nominal speed that are left. `busy_s`: time with a step under way, as counted up.

    A hot HBM slows its reads and shows no bit and no clock, only its temperature.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.clock = self.memory = 1.0
        self.xid = 0
        """The last one, as in DCGM."""
        self._cause: Cause | None = None
        self._joules = 0.0
        self._core_c, self._hbm_c = self._targets(IDLE_W)
        self._util = 0.0
        self._at = self._scraped_at = 0.0
        self._busy_s = self._scraped_busy_s = 0.0

    def throttle(self, cause: Cause, clock: float, memory: float, now: float, busy_s: float) -> None:
        """From now on at these shares of nominal speed. The heat that is the cause of it is there at once."""
        self._live(now, busy_s)
        self._cause, self.clock, self.memory = cause, clock, memory
        self._core_c, self._hbm_c = self._targets(self._power_w(self._util))

    def recover(self, now: float, busy_s: float) -> None:
        """Full speed again, no XID; it cools down by and by."""
        self._live(now, busy_s)
        self._cause, self.clock, self.memory, self.xid = None, 1.0, 1.0, 0

    def look(self, now: float, busy_s: float) -> GpuReadings:
        """What an exporter reads now."""
        if now > self._scraped_at:
            self._util = min(1.0, (busy_s - self._scraped_busy_s) / (now - self._scraped_at))
            self._scraped_at, self._scraped_busy_s = now, busy_s
        self._live(now, busy_s)
        # Clocks stay up between the steps of a busy engine.
        idle = self._util == 0
        return GpuReadings(
            sm_mhz=IDLE_SM_MHZ if idle else round(SM_MHZ * self.clock),
            mem_mhz=MEM_MHZ if self._cause == "hbm" else round(MEM_MHZ * self.memory),
            core_c=round(self._core_c),
            hbm_c=round(self._hbm_c),
            power_w=self._power_w(self._util),
            energy_mj=round(self._joules * 1000),
            util=self._util,
            xid=self.xid,
            reasons=_BITS[self._cause] | (GPU_IDLE if idle else 0),
        )

    def _live(self, now: float, busy_s: float) -> None:
        """Energy and heat of the time since the last call, in which nothing was changed."""
        passed_s = now - self._at
        if passed_s <= 0:
            return
        power_w = self._power_w(min(1.0, (busy_s - self._busy_s) / passed_s))
        self._joules += power_w * passed_s
        core_c, hbm_c = self._targets(power_w)
        left = exp(-passed_s / SETTLING_S)
        self._core_c = core_c + (self._core_c - core_c) * left
        self._hbm_c = hbm_c + (self._hbm_c - hbm_c) * left
        self._at, self._busy_s = now, busy_s

    def _power_w(self, util: float) -> float:
        return IDLE_W + (FULL_W - IDLE_W) * util * self.clock

    def _targets(self, power_w: float) -> tuple[float, float]:
        """Where the temperatures of core and HBM go under so much power."""
        core_c = HOT_C if self._cause == "thermal" else 32.0 + power_w / 20
        return core_c, HOT_HBM_C if self._cause == "hbm" else min(core_c + HBM_ABOVE_CORE_C, WARM_HBM_C)
