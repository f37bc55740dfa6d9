"""One GPU over time: which reading each throttle moves, and which it does not."""

import pytest

from gateway.emulator.gpu import FULL_W, GPU_IDLE, IDLE_SM_MHZ, IDLE_W, MEM_MHZ, SM_MHZ, Gpu


def busy_gpu() -> Gpu:
    """Under full load for a minute."""
    gpu = Gpu(0)
    gpu.look(60.0, 60.0)
    return gpu


def test_idle() -> None:
    """Low clock, low power, cool, and the bit that says that it is idle; no reason for concern."""
    gpu = Gpu(0).look(10.0, 0.0)
    assert (gpu.sm_mhz, gpu.mem_mhz, gpu.util, gpu.reasons) == (IDLE_SM_MHZ, MEM_MHZ, 0.0, GPU_IDLE)
    assert gpu.power_w == IDLE_W
    assert gpu.energy_mj == IDLE_W * 10 * 1000
    assert gpu.core_c < 40


def test_busy() -> None:
    """Full clock and power; the share of time with work is the utilization since the look before."""
    gpu = busy_gpu()
    half = gpu.look(62.0, 61.0)
    assert half.util == 0.5
    assert half.sm_mhz == SM_MHZ
    assert half.power_w == (IDLE_W + FULL_W) / 2
    assert half.energy_mj == pytest.approx(60_000 * FULL_W + 2000 * half.power_w)
    assert half.reasons == 0
    assert 50 < half.core_c < half.hbm_c < 80


def test_two_looks_at_once_agree() -> None:
    """No time has passed: nothing is divided by it, and no reading falls to 0."""
    gpu = busy_gpu()
    assert gpu.look(61.0, 61.0) == gpu.look(61.0, 61.0)


@pytest.mark.parametrize(
    ("cause", "clock", "memory", "sm_mhz", "mem_mhz", "reasons", "core_c", "hbm_c"),
    [
        ("thermal", 0.4, 1.0, 792, 2619, 0x60, (88, 88), (92, 92)),
        ("thermal", 0.5, 0.5, 990, 1310, 0x60, (88, 88), (92, 92)),
        ("power_cap", 0.8, 1.0, 1584, 2619, 0x4, (50, 70), (60, 85)),
        ("hbm", 1.0, 0.74, 1980, 2619, 0, (50, 70), (97, 97)),
    ],
)
def test_what_a_throttle_shows(cause, clock, memory, sm_mhz, mem_mhz, reasons, core_c, hbm_c) -> None:
    """At once. Slow HBM is told by its temperature alone."""
    gpu = busy_gpu()
    gpu.throttle(cause, clock, memory, 60.0, 60.0)
    seen = gpu.look(60.5, 60.5)
    assert (gpu.clock, gpu.memory) == (clock, memory)
    assert (seen.sm_mhz, seen.mem_mhz, seen.reasons) == (sm_mhz, mem_mhz, reasons)
    assert core_c[0] <= seen.core_c <= core_c[1]
    assert hbm_c[0] <= seen.hbm_c <= hbm_c[1]
    assert seen.power_w == IDLE_W + (FULL_W - IDLE_W) * clock


def test_it_cools_down_by_and_by() -> None:
    """The bits and clocks are back at once after recovery, the heat is not; an XID is gone too."""
    gpu = busy_gpu()
    gpu.xid = 79
    gpu.throttle("thermal", 0.4, 1.0, 60.0, 60.0)
    assert gpu.look(61.0, 61.0).xid == 79
    gpu.recover(61.0, 61.0)
    first, later = gpu.look(61.5, 61.5), gpu.look(90.0, 90.0)
    assert (first.sm_mhz, first.reasons, first.xid) == (SM_MHZ, 0, 0)
    assert first.core_c > 80
    assert later.core_c < 70


def test_energy_is_counted_at_the_power_of_its_time() -> None:
    """A throttle changes what is used from then on, not before; the counter never falls."""
    gpu = busy_gpu()
    gpu.throttle("thermal", 0.5, 1.0, 100.0, 100.0)
    seen = gpu.look(110.0, 110.0)
    assert seen.energy_mj == pytest.approx(1000 * (100 * FULL_W + 10 * (IDLE_W + (FULL_W - IDLE_W) / 2)))
