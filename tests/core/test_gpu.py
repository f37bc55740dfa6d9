"""When a GPU counts as throttled, by how much, and until when; and what is simply not known."""

from dataclasses import replace

import pytest

from gateway.core.gpu import (
    BAD,
    BITS,
    FATAL_XIDS,
    HOT_MEMORY_SLOWDOWN,
    LEAVE_SAMPLES,
    MOST_SLOWDOWN,
    Gpus,
    any_lost,
    reasons_of,
    slowest,
)
from gateway.core.vitals import GpuSample, GpuView, Reason

FINE = GpuSample(
    uuid="GPU-Aa",
    hosts=frozenset({"Node1"}),
    index=0,
    model="H100",
    temp_c=60.0,
    power_w=500.0,
    clock_mhz=1980.0,
    busy_ratio=0.9,
    reasons=frozenset(),
)
HOT = replace(FINE, clock_mhz=990.0, reasons=frozenset({Reason.SW_THERMAL}))


class Looking:
    """A look each second at one GPU."""

    def __init__(self) -> None:
        self.gpus = Gpus(stale_after_s=10.0)
        self.now = 0.0

    def look(self, *samples: GpuSample) -> GpuView:
        self.now += 1.0
        self.gpus.look("dcgm", samples, self.now)
        return self.view()

    def view(self, name: str = "gpu-aa") -> GpuView:
        (view,) = self.gpus.views([name], self.now)
        return view


def test_a_well_gpu_is_as_fast_as_it_can_be() -> None:
    """With all that its source shows, and who that was."""
    view = Looking().look(FINE)
    assert (view.slowdown, view.reasons, view.temp_c, view.power_w, view.clock_mhz) == (1.0, frozenset(), 60, 500, 1980)
    assert (view.name, view.source, view.at, view.lost) == ("gpu-aa", "dcgm", 1.0, None)


@pytest.mark.parametrize("reason", sorted(BAD - {Reason.HW_SLOWDOWN}))
def test_a_bad_reason_counts_at_once(reason: Reason) -> None:
    """By the clock: half of the highest one that was seen is twice as slow."""
    looking = Looking()
    looking.look(FINE)
    assert looking.look(replace(HOT, reasons=frozenset({reason}))).slowdown == 2.0


@pytest.mark.parametrize("reason", sorted(set(Reason) - BAD))
def test_what_is_normal(reason: Reason) -> None:
    """A power cap, idleness and somebody's settings are no throttling, whatever the clock."""
    looking = Looking()
    looking.look(FINE)
    assert looking.look(replace(HOT, reasons=frozenset({reason}))).slowdown == 1.0


def test_a_lone_hardware_slowdown_is_confirmed_first() -> None:
    """A change of P-state shows it for a moment; together with another reason it needs no second look."""
    lone = replace(HOT, reasons=frozenset({Reason.HW_SLOWDOWN}))
    looking = Looking()
    looking.look(FINE)
    assert looking.look(lone).slowdown == 1.0
    assert looking.look(FINE).slowdown == 1.0
    assert looking.look(lone).slowdown == 1.0
    assert looking.look(lone).slowdown == 2.0
    both = Looking()
    both.look(FINE)
    assert both.look(replace(lone, reasons=frozenset({Reason.HW_SLOWDOWN, Reason.HW_THERMAL}))).slowdown == 2.0


def test_it_is_over_after_three_clear_looks() -> None:
    """A GPU at its limit sets and clears the bit: what it was last holds meanwhile."""
    looking = Looking()
    looking.look(FINE)
    looking.look(HOT)
    seen = [looking.look(FINE).slowdown for _ in range(LEAVE_SAMPLES)]
    assert seen == [2.0, 2.0, 1.0]
    looking.look(HOT)
    for _ in range(5):
        assert looking.look(FINE).slowdown == 2.0
        assert looking.look(HOT).slowdown == 2.0


def test_an_idle_gpus_clock_says_nothing() -> None:
    """It lowers it by itself; one that was throttled is as it was."""
    idle = replace(HOT, clock_mhz=345.0, busy_ratio=0.0)
    looking = Looking()
    looking.look(FINE)
    looking.look(HOT)
    assert looking.look(idle).slowdown == 2.0
    unknown = replace(idle, busy_ratio=None, reasons=frozenset({Reason.SW_THERMAL, Reason.IDLE}))
    assert looking.look(unknown).slowdown == 2.0
    assert looking.look(replace(HOT, busy_ratio=None)).slowdown == 2.0


def test_the_top_clock() -> None:
    """As the source tells it; else the highest of its own or of its model's. Without any clock, how much is unknown."""
    assert Looking().look(replace(HOT, top_clock_mhz=1485.0)).slowdown == 1.5
    assert Looking().look(HOT).slowdown == 1.0
    peer = replace(FINE, uuid="GPU-Bb", index=1)
    assert Looking().look(peer, HOT).slowdown == 2.0
    assert Looking().look(replace(peer, model="A100"), HOT).slowdown == 1.0
    looking = Looking()
    looking.look(replace(FINE, clock_mhz=1e12))
    assert looking.look(HOT).slowdown == 1.0
    view = Looking().look(replace(HOT, clock_mhz=None))
    assert (view.slowdown, view.reasons) == (None, {Reason.SW_THERMAL})
    assert Looking().look(replace(HOT, clock_mhz=0.0, top_clock_mhz=1980.0)).slowdown is None
    assert Looking().look(replace(HOT, clock_mhz=1.0, top_clock_mhz=1980.0)).slowdown == MOST_SLOWDOWN


def test_hot_memory_has_no_bit() -> None:
    """It counts by its temperature, also where no reasons are told; with a gap between on and off."""
    looking = Looking()
    silent = replace(FINE, reasons=None)
    for memory_c, slowdown in ((94.0, None), (95.0, HOT_MEMORY_SLOWDOWN), (92.0, HOT_MEMORY_SLOWDOWN), (91.0, None)):
        assert looking.look(replace(silent, memory_temp_c=memory_c)).slowdown == slowdown
    assert looking.look(replace(HOT, memory_temp_c=96.0)).slowdown == 2.0


def test_unknown_reasons_are_not_well() -> None:
    """dcgm-exporter's default counters do not tell them."""
    looking = Looking()
    looking.look(HOT)
    view = looking.look(replace(FINE, reasons=None))
    assert (view.slowdown, view.reasons, view.temp_c) == (None, None, 60.0)


def test_counts_of_a_window() -> None:
    """One that falls is over, one that stays or rises goes on; reasons that are told go first."""
    looking = Looking()

    def counted(count: float) -> frozenset[Reason] | None:
        return looking.look(replace(FINE, reasons=None, recent={Reason.HW_THERMAL: count})).reasons

    assert [counted(count) for count in (0, 5, 5, 9, 8, 8)] == [
        frozenset(),
        *[{Reason.HW_THERMAL}] * 3,
        frozenset(),
        {Reason.HW_THERMAL},
    ]
    assert looking.look(replace(FINE, recent={Reason.HW_THERMAL: 99})).reasons == frozenset()


def test_totals_that_rise() -> None:
    """The first look at a total tells nothing; one that began anew is not one that rose."""
    looking = Looking()

    def told(total: float) -> frozenset[Reason] | None:
        return looking.look(replace(FINE, reasons=None, totals={Reason.SW_THERMAL: total})).reasons

    assert [told(total) for total in (100, 100, 101, 50)] == [None, frozenset(), {Reason.SW_THERMAL}, frozenset()]


def test_a_fatal_xid_counts_when_it_comes() -> None:
    """The last one stays on the page: one that was there when we came is no news, nor is it after a restart."""
    looking = Looking()

    def lost(xid: int | None) -> bool | None:
        return looking.look(replace(FINE, xid=xid)).lost

    assert [lost(xid) for xid in (48, 48, 43, 48, 48)] == [False, False, False, True, True]
    assert lost(None) is None
    assert lost(48) is True
    looking.gpus.forgive(["node1:0", "elsewhere"])
    assert lost(48) is False
    assert {48, 79} <= FATAL_XIDS
    assert lost(79) is True
    assert lost(13) is False


def test_the_driver_says_that_it_is_lost() -> None:
    """Or that it is there."""
    assert Looking().look(replace(FINE, lost=True)).lost is True
    assert Looking().look(replace(FINE, lost=False)).lost is False


def test_stale_is_unknown() -> None:
    """The age stays; later the GPU is forgotten altogether, and sets of GPUs may change."""
    looking = Looking()
    looking.look(HOT)
    looking.now += 10.0
    assert looking.view().temp_c == 60.0
    looking.now += 0.1
    assert looking.view() == GpuView("gpu-aa", "dcgm", 1.0)
    looking.now += 200.0
    assert looking.look(replace(FINE, uuid="GPU-Bb", hosts=frozenset())) == GpuView("gpu-aa")
    assert (len(looking.gpus), repr(looking.gpus)) == (1, "<Gpus ['bb']>")


def test_names() -> None:
    """By UUID in any writing, by host and index, by pod; a pod's GPUs go by their own names."""
    looking = Looking()
    looking.look(replace(FINE, pods=frozenset({"llm/vllm-0"})))
    for name in ("GPU-AA", "aa", "node1:0", "NODE1:0", "llm/vllm-0"):
        assert looking.view(name).at == 1.0
        assert looking.view(name).name == name
    assert looking.gpus.missing(["aa", "node1:1", "llm/vllm-1"]) == ["node1:1", "llm/vllm-1"]
    second = replace(FINE, uuid="GPU-Bb", index=1, pods=frozenset({"llm/vllm-0"}))
    looking.gpus.look("dcgm", [second], 2.0)
    assert [view.name for view in looking.gpus.views(["llm/vllm-0"], 2.0)] == ["aa", "bb"]
    anonymous = GpuSample(hosts=frozenset({"n"}), index=3)
    assert (anonymous.key, GpuSample().key, GpuSample().names) == ("n:3", "", frozenset())


def test_two_sources_of_one_gpu() -> None:
    """Each is followed by itself; that it is lost counts, then what says the most, then the newest."""
    looking = Looking()
    looking.gpus.look("a", [replace(FINE, hosts=frozenset({"other"}))], 1.0)
    looking.gpus.look("b", [replace(HOT, reasons=None)], 2.0)
    assert [looking.view(name).source for name in ("aa", "node1:0", "other:0")] == ["a", "b", "a"]
    looking.gpus.look("b", [HOT], 3.0)
    assert looking.view().source == "b"
    looking.gpus.look("a", [replace(FINE, lost=True)], 2.5)
    assert looking.view().lost is True
    looking.now = 12.6
    assert looking.view().source == "b"


def test_a_replica_is_as_slow_as_its_slowest_gpu() -> None:
    """One that is throttled tells, whatever the others; none that is throttled tells only if all are known."""

    def view(slowdown: float | None, lost: bool | None = None) -> GpuView:
        return GpuView("x", slowdown=slowdown, lost=lost)

    assert slowest([view(1.0), view(2.0), view(None)]) == 2.0
    assert slowest([view(1.0), view(1.0)]) == 1.0
    assert slowest([view(1.0), view(None)]) is None
    assert slowest([view(None)]) is None
    assert slowest([]) is None
    assert any_lost([view(1, False), view(1, True), view(1, None)]) is True
    assert any_lost([view(1, False), view(1, False)]) is False
    assert any_lost([view(1, False), view(1, None)]) is None
    assert any_lost([]) is None


def test_masks() -> None:
    """NVML's bits; unknown bits are passed over, what is no mask is not known."""
    assert reasons_of(0x60) == {Reason.SW_THERMAL, Reason.HW_THERMAL}
    assert reasons_of(0x8 | 0x80 | 0x1000) == {Reason.HW_SLOWDOWN, Reason.POWER_BRAKE}
    assert reasons_of(sum(BITS)) == set(BITS.values())
    assert reasons_of(0) == frozenset()
    assert reasons_of(None) is reasons_of(2.0**40) is reasons_of(-1) is None
