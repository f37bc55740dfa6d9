"""What one request says of its replicas: which ends are whose fault, and when they are told."""

from dataclasses import replace

import pytest

from gateway.core.fleet import Board
from gateway.core.hot import HotPrompts
from gateway.core.request import RequestFacts
from gateway.core.types import FleetSnapshot, Replica, ReplicaId, ReplicaState, ReplicaView
from gateway.serving.witness import Witness
from tests.core.test_hot import chat
from tests.telemetry.fakes import ManualClock

A, B = [Replica(ReplicaId(name), f"http://{name}") for name in "ab"]
READY, SUSPECT, EJECTED = ReplicaState.READY, ReplicaState.SUSPECT, ReplicaState.EJECTED
FACTS = chat("one ")


class Bench:
    """Two ready replicas, and witnesses who speak of them."""

    def __init__(self) -> None:
        views = tuple(ReplicaView(replica, READY) for replica in (A, B))
        self.board = Board(FleetSnapshot(views))
        self.hot = HotPrompts()

    def request(self) -> Witness:
        return Witness(self.board, self.hot, ManualClock())

    def served(self, witness: Witness, replica: Replica = B, status: int = 200, facts: RequestFacts = FACTS) -> None:
        witness.output(replica, status, facts, 1.0)

    @property
    def states(self) -> list[ReplicaState]:
        return [view.state for view in self.board.current.replicas]

    @property
    def strikes(self) -> list[int]:
        return [view.condition.strikes for view in self.board.current.replicas]


@pytest.mark.parametrize(
    ("reason", "state", "strikes"),
    [
        ("refused", EJECTED, 0),
        ("connect", SUSPECT, 1),
        ("broken", SUSPECT, 1),
        ("timeout", READY, 1),
        ("status", READY, 0),
        ("stream", READY, 0),
        ("busy", READY, 0),
        ("exhausted", READY, 0),
    ],
)
def test_each_reason(reason: str, state: ReplicaState, strikes: int) -> None:
    """What is certainly the replica's fault is told at once."""
    bench = Bench()
    bench.request().failed(A, reason)
    assert (bench.states, bench.strikes) == ([state, READY], [strikes, 0])


@pytest.mark.parametrize("reason", ["status", "stream"])
def test_a_fault_in_doubt_counts_once_another_has_answered(reason: str) -> None:
    """And then once, however much output comes."""
    bench = Bench()
    witness = bench.request()
    witness.failed(A, reason)
    bench.served(witness)
    bench.served(witness)
    assert bench.strikes == [1, 0]


@pytest.mark.parametrize("reason", ["status", "stream"])
def test_a_prompt_that_nobody_can_take_puts_nobody_out(reason: str) -> None:
    """Asked again and again, it fails everywhere: it is the prompt's fault."""
    bench = Bench()
    for _ in range(10):
        witness = bench.request()
        witness.failed(A, reason)
        witness.failed(B, reason)
    assert (bench.states, bench.strikes) == ([READY, READY], [0, 0])


def test_an_engine_that_fails_every_request_is_put_out() -> None:
    """As a vLLM does that drains: /health says 200, new requests get 500, the next replica answers them."""
    bench = Bench()
    for _ in range(3):
        witness = bench.request()
        witness.failed(A, "status")
        bench.served(witness)
    assert bench.states == [EJECTED, READY]


@pytest.mark.parametrize(("status", "strikes"), [(200, 0), (404, 2)])
def test_only_output_clears_strikes(status: int, strikes: int) -> None:
    """A 4xx comes from the API server, and says nothing of the engine."""
    bench = Bench()
    for _ in range(2):
        bench.request().failed(A, "timeout")
    bench.served(bench.request(), A, status)
    assert bench.strikes[0] == strikes


def test_what_was_served_may_get_hot() -> None:
    """What failed may not: it might be what makes engines fail."""
    bench = Bench()
    for _ in range(2):
        bench.request().failed(A, "status")
    assert len(bench.hot) == 0
    for _ in range(2):
        bench.served(bench.request())
    assert len(bench.hot) == 1


@pytest.mark.parametrize("reason", ["refused", "broken", "timeout", "status"])
def test_another_replica_has_the_name_by_now(reason: str) -> None:
    """Symptom: after a reload with another URL, the streams of the old process that ended put the new one out."""
    bench = Bench()
    witness = bench.request()
    new = replace(A, url="http://elsewhere")
    bench.board.publish(FleetSnapshot((ReplicaView(new, READY), ReplicaView(B, READY))))
    witness.failed(A, reason)
    bench.served(witness)
    assert (bench.states, bench.strikes) == ([READY, READY], [0, 0])
    witness.failed(new, "refused")
    assert bench.states == [EJECTED, READY]


def test_what_else_its_entry_says_is_no_other_replica() -> None:
    """Other costs, other GPUs: it is the same process, and its failures are its own."""
    bench = Bench()
    dearer = replace(A, cost_per_hour=9.0)
    bench.board.publish(FleetSnapshot((ReplicaView(dearer, READY), ReplicaView(B, READY))))
    bench.request().failed(A, "refused")
    assert bench.states == [EJECTED, READY]
