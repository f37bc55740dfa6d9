"""What time alone changes: old readings become unknown, and the index learns of what was read."""

import pytest

from gateway.core.affinity import PrefixIndex
from gateway.core.types import EngineReading, ReplicaId
from gateway.core.vitals import EngineFigures
from gateway.telemetry.steward import Steward
from tests.telemetry.fakes import ManualClock, Naps, board_of, run_until

R0 = ReplicaId("r0")
FIGURES = EngineFigures(kv_usage_ratio=0.5, kv_capacity_tokens=256, started_at=1e9)


def test_readings_go_stale() -> None:
    """After the configured time and not before; a tick that changes nothing publishes nothing."""
    board, clock = board_of("r0", "r1"), ManualClock()
    steward = Steward(board, PrefixIndex(), clock, engine_stale_s=3.0)
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
    steward = Steward(board, index, clock, engine_stale_s=3.0)
    index.record(R0, (1, 2, 3))
    board.fold(EngineReading(R0, FIGURES, 0), clock.now)
    steward.tick()
    assert index.blocks(R0) == 2
    board.fold(EngineReading(R0, EngineFigures(started_at=2e9), 0), clock.now)
    steward.tick()
    assert index.blocks(R0) == 0


@pytest.mark.anyio
async def test_it_ticks_until_cancelled() -> None:
    """At once, and after each nap."""
    board, clock, naps = board_of("r0"), ManualClock(), Naps(limit=3)
    steward = Steward(board, PrefixIndex(), clock, engine_stale_s=3.0)
    await run_until(lambda: steward.run(naps), naps.over.is_set)
    assert len(naps.taken) == 3
