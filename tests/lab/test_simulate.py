"""A run loses nothing, is the same each time, and does to the fleet what was asked."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulator.engine import EngineParams
from gateway.lab.entrants import ENTRANTS
from gateway.lab.setup import Kill, Setup, Throttle
from gateway.lab.simulate import Ended, Simulation, simulate
from gateway.lab.traces import GENERATORS, TraceItem
from tests.lab.fleets import item

SMALL = replace(EngineParams(), kv_tokens=4096, max_sequences=8)


def check_books(simulation: Simulation) -> None:
    """Nobody is owed anything."""
    for gateway in simulation.gateways:
        for number in range(4):
            load = gateway.books[f"r{number}"]  # type: ignore[index]
            assert (load.queued_tokens, load.in_flight, load.held_tokens) == (0, 0, 0)


spans = st.tuples(st.floats(0, 3), st.floats(0.01, 3))
requests = st.builds(
    item,
    st.floats(0, 3),
    st.integers(1, 3000),
    st.integers(1, 60),
    topic=st.integers(1, 4),
    own=st.integers(0, 5),
)
setups = st.builds(
    Setup,
    replicas=st.just(3),
    params=st.just(SMALL),
    speeds=st.sampled_from([(), (1.0, 0.4)]),
    kv_tokens=st.sampled_from([(), (4096, 2048)]),
    gateways=st.integers(1, 3),
    delay_s=st.none() | st.floats(0, 1),
    throttles=st.lists(
        st.builds(lambda r, s: Throttle(r, s[0], s[0] + s[1], 0.3, 0.5), st.integers(0, 2), spans), max_size=2
    ).map(tuple),
    kills=st.lists(st.builds(lambda r, s: Kill(r, s[0], s[0] + s[1]), st.integers(0, 2), spans), max_size=3).map(tuple),
    telemetry=st.booleans(),
    learned=st.booleans(),
    noise=st.sampled_from([0.0, 0.1]),
    replies=st.booleans(),
)


@given(st.lists(requests, max_size=40), setups, st.sampled_from(sorted(ENTRANTS)))
def test_every_request_ends_once(trace: list[TraceItem], setup: Setup, policy: str) -> None:
    """Whatever happens to the fleet: each request ends once, after it came, and every gateway's books are empty."""
    trace = sorted(trace, key=lambda one: one.arrival_s)
    ended: list[Ended] = []
    simulation = Simulation(iter(trace), ENTRANTS[policy], setup, ended.append)
    simulation.run()
    assert Counter(map(id, trace)) == Counter(id(one.item) for one in ended)
    check_books(simulation)
    for one in ended:
        assert one.item.arrival_s <= one.end_s
        if one.first_s is not None:
            assert one.item.arrival_s < one.first_s <= one.end_s
        assert (one.first_s is None) == (one.failure == "refused")
    if not setup.kills and not setup.kv_tokens:
        assert all(not one.failure for one in ended)
    latest_s = max((one.end_s for one in ended), default=0.0)
    assert all(0 <= replica.busy_s <= latest_s for replica in simulation.replicas)


def test_a_run_is_the_same_each_time() -> None:
    """And `progress` counts its ends."""
    trace = GENERATORS["characters"](Random(1), rate_per_s=20, duration_s=10)
    counts: list[int] = []
    first, second = (simulate(trace, ENTRANTS["prefix"], Setup(), counts.append) for _ in range(2))
    assert first.ended == second.ended
    assert counts == 2 * list(range(1, len(trace) + 1))
    assert first.itl == second.itl


def test_the_cache_is_found_again() -> None:
    """A second request of the topic goes where the first one went, and computes its own part only."""
    run = simulate([item(0.0, own=1), item(1.0, own=2)], ENTRANTS["prefix"], Setup())
    first, second = run.ended
    assert first.replica == second.replica
    assert (first.cached_tokens, second.cached_tokens) == (0, 1024)


def test_a_throttled_replica_serves_slower_and_then_as_before() -> None:
    """Of the same request over and over, those in the throttle take longer; the first one computes the prompt."""
    trace = [item(float(at), output=30) for at in range(9)]
    run = simulate(trace, ENTRANTS["prefix"], Setup(replicas=1, throttles=(Throttle(0, 2.5, 5.5, 0.5, 0.5),)))
    took = [one.end_s - one.item.arrival_s for one in run.ended]
    assert took[3:6] == pytest.approx([2 * took[1]] * 3, rel=1e-6)
    assert took[6:] == pytest.approx([took[1]] * 3, rel=1e-6)


def test_telemetry_keeps_traffic_from_a_slow_replica() -> None:
    """Its share falls with its clock, and comes back after it."""
    trace = GENERATORS["rag"](Random(1), rate_per_s=20, duration_s=12)
    setup = Setup(replicas=2, throttles=(Throttle(0, 0.0, 6.0, 0.25),))

    def share(telemetry: bool, start: float, end: float) -> float:
        run = simulate(trace, ENTRANTS["prefix"], replace(setup, telemetry=telemetry))
        window = [one.replica for one in run.ended if start <= one.item.arrival_s < end]
        return window.count(0) / len(window)

    assert share(True, 1.5, 6) < share(False, 1.5, 6) < 0.5
    assert share(True, 8, 12) == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_slowness_is_learned_without_telemetry() -> None:
    """Of what arrives once it had time to show, a slow replica gets less, and nobody has told."""
    trace = GENERATORS["rag"](Random(1), rate_per_s=40, duration_s=20)
    setup = Setup(replicas=3, throttles=(Throttle(0, 0.0, 30.0, 0.3, 0.3),))

    def share(learned: bool) -> float:
        run = simulate(trace, ENTRANTS["prefix"], replace(setup, learned=learned))
        late = [one.replica for one in run.ended if one.item.arrival_s > 10]
        return late.count(0) / len(late)

    assert share(True) < 0.9 * share(False)


def test_a_death_fails_what_streams_and_moves_what_waits() -> None:
    """One request has its first token when the replica dies, the other does not: it is served elsewhere, from its
    arrival on. The replica that is back gets traffic again."""
    trace = [item(0.0, output=100, own=1), item(0.299, prompt=3000, own=2), item(2.0, own=3), item(2.0, own=4)]
    run = simulate(trace, ENTRANTS["least_load"], Setup(replicas=1, kills=(Kill(0, 0.3, 0.5),)))
    assert [one.failure for one in run.ended] == ["broken", "refused", "", ""]
    run = simulate(trace[:2], ENTRANTS["sglang"], Setup(replicas=2, kills=(Kill(0, 0.3, 0.5), Kill(1, 9.0, 10.0))))
    home = run.ended[0].replica
    kill = Kill(home, 0.3, 0.5)
    run = simulate(trace, ENTRANTS["sglang"], Setup(replicas=2, kills=(kill,)))
    assert [one.failure for one in run.ended] == ["broken", "", "", ""]
    moved = run.ended[1]
    assert (moved.replica, moved.item.arrival_s) == (1 - home, 0.299)
    assert moved.first_s is not None
    assert moved.first_s > 0.3


def test_a_prompt_that_fits_nowhere_is_refused() -> None:
    run = simulate([item(prompt=5000)], ENTRANTS["prefix"], Setup(params=SMALL))
    assert [one.failure for one in run.ended] == ["refused"]


def test_gateways_that_share_nothing_lose_the_prefix() -> None:
    """Two take turns: told of each other they find the topic's cache, else each may have to fill one of its own."""
    trace = [item(float(at), own=at) for at in range(12)]

    def hits(delay_s: float | None) -> int:
        run = simulate(trace, ENTRANTS["prefix"], Setup(replicas=16, gateways=2, delay_s=delay_s))
        return sum(one.cached_tokens == 1024 for one in run.ended)

    assert hits(0.25) == 11
    assert hits(None) <= 11


def test_a_thousand_replicas() -> None:
    trace = [item(0.001 * n, topic=n % 40, own=n) for n in range(40)]
    run = simulate(trace, ENTRANTS["prefix"], Setup(replicas=1000))
    assert len({one.replica for one in run.ended}) == 40
