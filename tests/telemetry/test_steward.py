"""What time alone changes: old readings become unknown, and the index learns of what was read."""

import logging
from dataclasses import replace

import pytest

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Load
from gateway.core.fleet import Board
from gateway.core.gpu import Gpus
from gateway.core.slowdown import Slowness
from gateway.core.tokens import TokenRatios
from gateway.core.types import (
    EngineReading,
    FleetSnapshot,
    ModelsReading,
    Replica,
    ReplicaId,
    ReplicaState,
    ReplicaView,
    Slowdown,
)
from gateway.core.vitals import EngineFigures, GpuSample, Reason
from gateway.telemetry.steward import MOST_PER_TICK, Steward
from tests.telemetry.fakes import ManualClock, Naps, board_of, run_until

R0 = ReplicaId("r0")
GPUS = Gpus(stale_after_s=10.0)
FIGURES = EngineFigures(kv_usage_ratio=0.5, kv_capacity_tokens=256, started_at=1e9)


def test_readings_go_stale() -> None:
    """After the configured time and not before; a tick that changes nothing publishes nothing."""
    board, clock = board_of("r0", "r1"), ManualClock()
    steward = Steward(board, PrefixIndex(), TokenRatios(), Slowness(), GPUS, clock, engine_stale_s=3.0)
    board.fold(EngineReading(R0, FIGURES, 0), clock.now)
    fresh = board.current
    clock.now += 3.0
    steward.tick()
    assert board.current is fresh
    clock.now += 0.1
    steward.tick()
    assert board.current.replicas[0].kv is None
    assert board.current.replicas[1] is fresh.replicas[1]


def test_the_index_follows() -> None:
    """The engine's capacity is the index's; one that was started anew holds nothing."""
    board, clock, index = board_of("r0"), ManualClock(), PrefixIndex()
    steward = Steward(board, index, TokenRatios(), Slowness(), GPUS, clock, engine_stale_s=3.0)
    index.record(R0, (1, 2, 3))
    board.fold(EngineReading(R0, FIGURES, 0), clock.now)
    steward.tick()
    assert index.blocks(R0) == 2
    board.fold(EngineReading(R0, EngineFigures(started_at=2e9), 0), clock.now)
    steward.tick()
    assert index.blocks(R0) == 0


def test_slowness_reaches_the_score_and_people(caplog: pytest.LogCaptureFixture) -> None:
    """What was learned is on the view; one line when it lasts, one when it ends."""
    caplog.set_level(logging.INFO, logger="gateway.telemetry")
    board, clock, slowness = board_of("r0", "r1", "r2"), ManualClock(), Slowness()
    steward = Steward(board, PrefixIndex(), TokenRatios(), slowness, GPUS, clock, engine_stale_s=3.0)
    names = [view.id for view in board.current.replicas]
    for name in names:
        board.fold(ModelsReading(name, frozenset({"m"})), clock.now)

    def go_on(seconds: float, factor: float) -> None:
        for _ in range(int(seconds / 0.25)):
            clock.now += 0.25
            for name in names:
                pace = slowness.sent(name, Load(), 1, clock.now).pace
                pace.gap(0.01 * (factor if name == "r0" else 1.0), clock.now)
            steward.tick()

    go_on(12, 2.0)
    assert board.current.replicas[0].slowdown == board.current.replicas[0].learned == Slowdown(2.0, 2.0)
    assert board.current.replicas[1].slowdown == Slowdown()
    go_on(12, 1.0)
    assert board.current.replicas[0].slowdown == Slowdown()
    assert [record.message for record in caplog.records] == [
        "replica r0 is 2.0 times slower than nominal for 3 s",
        "replica r0 is no longer slow",
    ]
    board.publish(FleetSnapshot())
    steward.tick()
    assert board.current.replicas == ()


def test_gpus_reach_the_score() -> None:
    """The larger of what they tell and what was learned; a fatal XID shows until the engine is started anew."""
    hot = GpuSample(uuid="a", clock_mhz=990.0, top_clock_mhz=1980.0, reasons=frozenset({Reason.HW_THERMAL}), xid=0)
    board = Board(FleetSnapshot((ReplicaView(Replica(R0, "http://r0", gpus=("GPU-a",))),)))
    clock, gpus = ManualClock(), Gpus(stale_after_s=10.0)
    steward = Steward(board, PrefixIndex(), TokenRatios(), Slowness(), gpus, clock, engine_stale_s=3.0)

    def seen(sample: GpuSample) -> ReplicaView:
        clock.now += 1.0
        gpus.look("dcgm", [sample], clock.now)
        steward.tick()
        return board.current.replicas[0]

    assert seen(hot).slowdown == Slowdown(2.0, 2.0)
    assert (seen(hot).gpu_lost, seen(replace(hot, xid=79)).gpu_lost) == (False, True)
    board.fold(EngineReading(R0, FIGURES, 0), clock.now)
    board.fold(EngineReading(R0, replace(FIGURES, started_at=2e9), 0), clock.now)
    seen(replace(hot, xid=79))
    assert seen(replace(hot, xid=79)).gpu_lost is False
    clock.now += 10.1
    steward.tick()
    (view,) = board.current.replicas
    assert (view.slowdown, view.gpu_lost, view.gpus[0].at) == (None, None, clock.now - 10.1)


def test_a_lost_gpu_puts_its_replica_out() -> None:
    """At once, and until its GPUs are seen to be well: that nobody shows them any more is no such thing. Silence of a
    GPU that was well puts nobody out."""
    well = GpuSample(uuid="a", clock_mhz=1980.0, top_clock_mhz=1980.0, reasons=frozenset(), lost=False)
    board = Board(FleetSnapshot((ReplicaView(Replica(R0, "http://r0", gpus=("GPU-a",)), ReplicaState.READY),)))
    clock, gpus = ManualClock(), Gpus(stale_after_s=10.0)
    steward = Steward(board, PrefixIndex(), TokenRatios(), Slowness(), gpus, clock, engine_stale_s=3.0)

    def after(samples: list[GpuSample], seconds: float = 1.0) -> tuple[ReplicaState, bool]:
        clock.now += seconds
        gpus.look("nvml", samples, clock.now)
        steward.tick()
        (view,) = board.current.replicas
        return view.state, view.condition.gpu_lost

    assert after([well]) == (ReplicaState.READY, False)
    assert after([], 11.0) == (ReplicaState.READY, False)
    assert after([replace(well, lost=True)]) == (ReplicaState.EJECTED, True)
    assert after([], 11.0) == (ReplicaState.EJECTED, True)
    assert after([well]) == (ReplicaState.EJECTED, False)
    board.fold(ModelsReading(R0, frozenset("m")), clock.now)
    board.fold(ModelsReading(R0, frozenset("m")), clock.now)
    assert board.current.replicas[0].state is ReplicaState.WARMING


def test_a_large_fleet_is_looked_at_in_turns() -> None:
    """No tick looks at more than so many replicas, and none is left out."""
    board, clock = board_of(*(f"r{i}" for i in range(2 * MOST_PER_TICK + 10))), ManualClock()
    steward = Steward(board, PrefixIndex(), TokenRatios(), Slowness(), GPUS, clock, engine_stale_s=3.0)
    for view in board.current.replicas:
        board.fold(EngineReading(view.id, FIGURES, 0), clock.now)
    clock.now += 10.0
    fresh = []
    for _ in range(3):
        steward.tick()
        fresh.append(sum(view.kv is not None for view in board.current.replicas))
    assert fresh == [MOST_PER_TICK + 10, 10, 0]


@pytest.mark.anyio
async def test_it_ticks_until_cancelled() -> None:
    """At once, and after each nap."""
    board, clock, naps = board_of("r0"), ManualClock(), Naps(limit=3)
    steward = Steward(board, PrefixIndex(), TokenRatios(), Slowness(), GPUS, clock, engine_stale_s=3.0)
    await run_until(lambda: steward.run(naps), naps.over.is_set)
    assert len(naps.taken) == 3
