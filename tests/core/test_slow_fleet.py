"""Learned slowness in a fleet of emulated engines, in virtual time: seen soon, gone soon, and never where it is not."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import pytest

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books, Entry
from gateway.core.endpoints import RELAYED
from gateway.core.policies.prefix import Prefix
from gateway.core.request import RequestFacts
from gateway.core.routing import decide
from gateway.core.slowdown import Slowness, Stride
from gateway.core.types import FleetSnapshot, Replica, ReplicaId, ReplicaState, ReplicaView, Slowdown
from gateway.emulator.engine import EngineModel, EngineParams, Progress
from gateway.lab.traces import TraceItem, chat, rag

pytestmark = pytest.mark.slow
NAMES = [ReplicaId(f"r{i}") for i in range(4)]
CHAT = RELAYED[b"/v1/chat/completions"]
NOISE = 0.1
TICK_S = 0.25


@dataclass(slots=True)
class Stream:
    entry: Entry
    stride: Stride
    last_at: float | None = None


class Lab:
    """Four engines behind the prefix rule; every time that the gateway would see has 10 % of noise."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.engines = {name: EngineModel(EngineParams.named("8b-h100")) for name in NAMES}
        self.books, self.index, self.slowness, self.policy = Books(), PrefixIndex(), Slowness(), Prefix()
        self.fleet = FleetSnapshot(
            tuple(ReplicaView(Replica(n, "http://x"), ReplicaState.READY, frozenset({"m"})) for n in NAMES)
        )
        self.streams: dict[str, Stream] = {}

    def play(self, items: Sequence[TraceItem], clocks: Sequence[tuple[float, float]]) -> Iterator[tuple[float, dict]]:
        """The time and what is learned, each tick. `clocks`: (second, clock of r1 from then on)."""
        events: list[tuple[float, int, object]] = [(item.arrival_s, i, item) for i, item in enumerate(items)]
        events += [(at, -1, clock) for at, clock in clocks]
        events += [(i * TICK_S, -2, None) for i in range(1, int(items[-1].arrival_s / TICK_S))]
        heapq.heapify(events)
        while events:
            at, number, event = heapq.heappop(events)
            self.run_engines(at)
            if isinstance(event, TraceItem):
                self.send(event, f"q{number}", at)
            elif isinstance(event, float):
                self.engines[NAMES[1]].throttle(clock=event)
            else:
                self.slowness.settle(NAMES, at)
                yield at, self.slowness.learned(self.fleet)

    def run_engines(self, until: float) -> None:
        while True:
            due = [(at, name) for name, engine in self.engines.items() if (at := engine.next_at()) is not None]
            if not due or min(due)[0] > until:
                return
            at, name = min(due)
            for progress in self.engines[name].advance(at):
                self.heard(progress, at)

    def send(self, item: TraceItem, name: str, now: float) -> None:
        facts = RequestFacts(CHAT, "m", True, None, item.prompt_tokens, False, b"", blocks=item.index_blocks)
        match = self.index.match(facts.blocks)
        replica = decide(facts, self.fleet, self.books, match, self.policy).ranked[0].id
        work = facts.uncached_tokens(match.depth(replica))
        stride = self.slowness.sent(replica, self.books[replica], work, now)
        self.streams[name] = Stream(self.books.open(replica, work, item.prompt_tokens), stride)
        self.index.record(replica, facts.blocks)
        self.engines[replica].submit(item.engine_request(name), now)

    def heard(self, progress: Progress, now: float) -> None:
        stream = self.streams[progress.request_id]
        noise = self.rng.lognormvariate(0, NOISE)
        if stream.last_at is None:
            stream.entry.first_token()
            stream.stride.sent_at = now - (now - stream.stride.sent_at) * noise
            stream.stride.first_token(now)
        elif now >= stream.stride.pace.next_at:
            stream.stride.pace.gap((now - stream.last_at) * noise, now)
        stream.last_at = now
        if progress.finished:
            stream.entry.close()
            del self.streams[progress.request_id]


def worst(learned: dict[ReplicaId, Slowdown], name: ReplicaId) -> float:
    slow = learned.get(name, Slowdown())
    return max(slow.prefill, slow.decode)


def test_a_throttled_replica_is_found_and_forgiven() -> None:
    """Its clock is cut to 0.4 for 14 s: seen within 8 s, gone within 5 s, and no other replica is ever blamed."""
    items = rag(Random(11), rate_per_s=24.0, duration_s=32.0)
    seen = gone = None
    for at, learned in Lab(1).play(items, [(8.0, 0.4), (22.0, 1.0)]):
        assert all(worst(learned, name) <= 1.3 for name in NAMES if name != "r1")
        slow = worst(learned, NAMES[1]) > 1.3
        assert not (slow and at < 8.0)
        if slow and seen is None:
            seen = at - 8.0
        if at > 22.0 and not slow and gone is None:
            gone = at - 22.0
    assert seen is not None
    assert gone is not None
    assert (seen <= 8.0, gone <= 5.0) == (True, True)


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_blames_nobody(seed: int) -> None:
    """No tick of a run without a throttled replica is above the alarm."""
    items = rag(Random(seed), rate_per_s=26.0, duration_s=20.0)
    for _, learned in Lab(seed).play(items, []):
        assert all(worst(learned, name) <= 1.3 for name in NAMES)


def test_load_blames_nobody() -> None:
    """Long answers to a few system prompts: nearly half of the traffic goes to one replica, which is slower for it."""
    lab = Lab(1)
    items = chat(Random(11), rate_per_s=80.0, duration_s=24.0)
    for _, learned in lab.play(items, []):
        assert all(worst(learned, name) <= 1.3 for name in NAMES)
    taken = [
        sum(stream.stride.pace is pace for stream in lab.streams.values()) for pace in lab.slowness._paces.values()
    ]
    assert max(taken) > 2 * min(taken)
