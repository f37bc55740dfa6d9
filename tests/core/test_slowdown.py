"""Slowness is told from load, noise moves nothing, and what is not known is not guessed."""

from collections.abc import Iterable
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.books import Books, Load
from gateway.core.slowdown import (
    DECODE_EACH_S,
    DECODE_LEAST,
    FASTEST,
    FORGET_S,
    MIN_WORK_TOKENS,
    PREFILL_LEAST,
    RETRY_S,
    SLOWEST,
    TRIAL_S,
    Slowness,
    used,
)
from gateway.core.types import FleetSnapshot, Replica, ReplicaId, ReplicaView, Slowdown

NAMES = [ReplicaId(f"r{i}") for i in range(4)]


def fleet(*names: ReplicaId, models: str = "m") -> FleetSnapshot:
    return FleetSnapshot(tuple(ReplicaView(Replica(name, "http://x"), models=frozenset({models})) for name in names))


FLEET = fleet(*NAMES)


def learned_by(slowness: Slowness, fleet: FleetSnapshot, now: float) -> dict[ReplicaId, Slowdown]:
    """All that is known at a time."""
    slowness.settle(NAMES, now)
    return slowness.learned(fleet)


def prefills(slowness: Slowness, replica: ReplicaId, factor: float, times: Iterable[float]) -> None:
    """Prefills of 1000 tokens at 10 ms a thousand of tokens expected, times the factor."""
    for at in times:
        stride = slowness.sent(replica, Load(), 1000, at)
        expected = stride.expected
        assert expected is not None
        stride.first_token(at + factor * expected * 1e-5)


def decodes(slowness: Slowness, replica: ReplicaId, factor: float, times: Iterable[float]) -> None:
    """Gaps of 10 ms, times the factor."""
    pace = slowness.sent(replica, Load(), 1, 0.0).pace
    for at in times:
        pace.gap(0.01 * factor, at)


def each(start: float, end: float, step: float = 0.2) -> list[float]:
    return [start + i * step for i in range(int((end - start) / step))]


def test_a_slow_one_among_peers() -> None:
    """Prefill and decode by themselves, as multiples of the median of its peers."""
    slowness = Slowness()
    for name in NAMES:
        decodes(slowness, name, 1.5 if name == "r2" else 1.0, each(0, 6))
        prefills(slowness, name, 2.5 if name == "r1" else 1.0, each(0, 6))
    learned = learned_by(slowness, FLEET, 6.0)
    assert learned.keys() == set(NAMES)
    assert learned[NAMES[0]] == learned[NAMES[3]] == Slowdown(1.0, 1.0)
    assert learned[NAMES[1]] == Slowdown(pytest.approx(2.5), 1.0)
    assert learned[NAMES[2]] == Slowdown(1.0, pytest.approx(1.5))


@pytest.mark.parametrize(
    ("factor", "told"), [(1.25, 1.0), (0.76, 1.0), (1.3, 1.3), (0.7, 0.7), (50, SLOWEST), (0.01, FASTEST)]
)
def test_noise_and_nonsense(factor: float, told: float) -> None:
    """Within 25 % of its peers is as fast as they are; beyond the clamps nothing is believed."""
    slowness = Slowness()
    for name in NAMES:
        decodes(slowness, name, factor if name == "r1" else 1.0, each(0, 6))
    assert learned_by(slowness, FLEET, 6.0)[NAMES[1]].decode == pytest.approx(told)


def test_prefill_falls_back_to_decode() -> None:
    """Where prefills tell nothing; the other way round decode is nominal."""
    slowness = Slowness()
    for name in NAMES:
        decodes(slowness, name, 2.0 if name == "r1" else 1.0, each(0, 6))
    assert learned_by(slowness, FLEET, 6.0)[NAMES[1]] == Slowdown(2.0, 2.0)
    slowness = Slowness()
    for name in NAMES:
        prefills(slowness, name, 2.0 if name == "r1" else 1.0, each(0, 6))
    assert learned_by(slowness, FLEET, 6.0)[NAMES[1]] == Slowdown(pytest.approx(2.0), 1.0)


def test_slow_shows_within_seconds_and_ends_sooner() -> None:
    """Of the newest 40 gaps, at 20 a second, 27 have to be slow, and 14 quick ones end it."""
    slowness = Slowness()

    def gone_by(factor: float, start: float, end: float) -> float:
        """When the figure of r1 first changed."""
        before = learned_by(slowness, FLEET, start).get(NAMES[1])
        for at in each(start, end, 0.05):
            for name in NAMES:
                decodes(slowness, name, factor if name == "r1" else 1.0, [at])
            if learned_by(slowness, FLEET, at).get(NAMES[1]) != before:
                return at - start
        return inf

    gone_by(1.0, 0.0, 1.0)
    gone_by(1.0, 1.0, 10.0)
    assert gone_by(2.5, 10.0, 20.0) == pytest.approx(27 * DECODE_EACH_S, abs=0.2)
    for at in each(12.0, 20.0, 0.05):
        for name in NAMES:
            decodes(slowness, name, 2.5 if name == "r1" else 1.0, [at])
    assert gone_by(1.0, 20.0, 30.0) == pytest.approx(14 * DECODE_EACH_S, abs=0.2)


def test_too_few_samples_tell_nothing() -> None:
    """Neither does one replica without a peer, or one that serves other models."""
    slowness = Slowness()
    for name in NAMES:
        decodes(slowness, name, 1.0, each(0, 6)[: DECODE_LEAST - 1])
        prefills(slowness, name, 1.0, each(0, 6)[: PREFILL_LEAST - 1])
    assert learned_by(slowness, FLEET, 6.0) == {}
    decodes(slowness, NAMES[0], 1.0, each(0, 6))
    assert learned_by(slowness, FLEET, 6.0) == {}
    decodes(slowness, NAMES[1], 5.0, each(0, 6))
    apart = FleetSnapshot(fleet(NAMES[0]).replicas + fleet(NAMES[1], models="other").replicas)
    assert learned_by(slowness, apart, 6.0) == {}
    assert learned_by(slowness, FleetSnapshot((ReplicaView(Replica(NAMES[0], "x")),)), 6.0) == {}


def test_rare_prefills_count_for_longer() -> None:
    """Eight in the last twenty seconds are enough, and the newest eight are those that count."""
    slowness = Slowness()
    for name in NAMES:
        prefills(slowness, name, 1.0, each(0, 8, 2.0))
        prefills(slowness, name, 3.0 if name == "r1" else 1.0, each(8, 22, 1.4))
    assert learned_by(slowness, FLEET, 22.0)[NAMES[1]].prefill == pytest.approx(3.0)


@pytest.mark.parametrize(("slow", "told"), [(6, 1.0), (7, 2.0), (8, 2.0)])
def test_nearly_all_of_the_newest_must_be_slow(slow: int, told: float) -> None:
    """Some late first tokens are chance: seven of eight are not, 3.5 % of a nominal replica's without the dead band."""
    slowness = Slowness()
    for name in NAMES:
        prefills(slowness, name, 2.0 if name == "r1" else 1.0, each(0, slow, 1.0))
        prefills(slowness, name, 1.0, each(slow, PREFILL_LEAST, 1.0))
    assert learned_by(slowness, FLEET, 8.0)[NAMES[1]].prefill == pytest.approx(told)


def test_without_samples_it_is_tried_again() -> None:
    """A replica that gets no traffic counts as nominal after a while; one sample brings back what it was, and after
    some more seconds without any, nothing is left of it."""
    slowness = Slowness()
    for name in NAMES:
        decodes(slowness, name, 2.0 if name == "r1" else 1.0, each(0, 6))
    newest = each(0, 6)[-1]

    def told(now: float) -> float | None:
        for name in NAMES:
            if name != "r1":
                decodes(slowness, name, 1.0, each(now - 2, now))
        learned = learned_by(slowness, FLEET, now).get(NAMES[1])
        return learned and learned.decode

    assert told(newest + TRIAL_S) == 2.0
    assert told(newest + TRIAL_S + 0.1) is None
    decodes(slowness, NAMES[1], 2.0, [newest + TRIAL_S + 0.2])
    assert told(newest + TRIAL_S + 0.3) == 2.0
    assert told(newest + TRIAL_S + FORGET_S + 0.3) is None
    decodes(slowness, NAMES[1], 2.0, [newest + 40.0])
    assert told(newest + 40.1) is None


def test_a_trial_shows_a_recovery() -> None:
    """One stream's gaps are enough."""
    slowness = Slowness()
    for name in NAMES:
        decodes(slowness, name, 2.0 if name == "r1" else 1.0, each(0, 6))
        decodes(slowness, name, 1.0, each(12, 14))
    assert learned_by(slowness, FLEET, 14.0)[NAMES[1]].decode == 1.0


def test_load_is_no_slowness() -> None:
    """A replica with a larger batch and longer contexts is expected to take longer, in proportion."""
    books = Books()
    slowness = Slowness()
    for _ in range(70):
        books.open(NAMES[1], 1, 2000).first_token()
    idle = slowness.sent(NAMES[0], books[NAMES[0]], 1000, 0.0)
    busy = slowness.sent(NAMES[1], books[NAMES[1]], 1000, 0.0)
    assert busy.expected == pytest.approx((idle.expected or 0) + 1.5 * 70 + 0.002 * 140_000)
    for name, gap_s in ((NAMES[0], 0.010), (NAMES[1], 0.018)):
        for at in each(0, 6):
            slowness.sent(name, books[name], 1, 0.0).pace.gap(gap_s, at)
    learned = learned_by(slowness, FLEET, 6.0)
    assert {learned[name].decode for name in NAMES[:2]} == {1.0}


def test_a_prefill_tells_only_if_it_was_alone_and_long_enough() -> None:
    """Behind others it waits, and a short one is the wait for the step under way."""
    books = Books()
    slowness = Slowness()
    assert slowness.sent(NAMES[0], books[NAMES[0]], MIN_WORK_TOKENS, 0.0).expected is not None
    assert slowness.sent(NAMES[0], books[NAMES[0]], MIN_WORK_TOKENS - 1, 0.0).expected is None
    books.open(NAMES[0], 1, 1)
    assert slowness.sent(NAMES[0], books[NAMES[0]], MIN_WORK_TOKENS, 0.0).expected is None


def test_a_gap_tells_only_without_prefills() -> None:
    """Neither while one is promised there, nor if one ended within the gap; then it is looked again soon."""
    books = Books()
    slowness = Slowness()
    pace = slowness.sent(NAMES[0], books[NAMES[0]], 1, 0.0).pace
    entry = books.open(NAMES[0], 5, 5)
    pace.gap(0.01, 1.0)
    assert pace.next_at == 1.0 + RETRY_S
    entry.first_token()
    slowness.sent(NAMES[0], books[NAMES[0]], 1, 0.5).first_token(1.01)
    pace.gap(0.02, 1.02)
    assert pace.next_at == 1.02 + RETRY_S
    pace.gap(0.01, 1.03)
    assert pace.next_at == 1.03 + DECODE_EACH_S


def test_it_can_be_off() -> None:
    """Then the hot path never calls, and nothing is known."""
    slowness = Slowness(learn=False)
    stride = slowness.sent(NAMES[0], Load(), 1000, 0.0)
    assert (stride.pace.next_at, stride.expected) == (inf, None)
    stride.first_token(1.0)
    assert learned_by(slowness, FLEET, 1.0) == {}


def test_a_replica_that_leaves_is_forgotten() -> None:
    """It may come back on other hardware."""
    slowness = Slowness()
    for name in NAMES:
        decodes(slowness, name, 2.0 if name == "r1" else 1.0, each(0, 6))
    learned_by(slowness, fleet(NAMES[0], NAMES[2]), 6.0)
    assert NAMES[1] not in learned_by(slowness, FLEET, 6.0)


def test_a_clock_that_stands_still_divides_by_nothing() -> None:
    """Times of zero have no ratio."""
    slowness = Slowness()
    for name in NAMES:
        decodes(slowness, name, 0.0, each(0, 6))
    assert learned_by(slowness, FLEET, 6.0) == {}


@given(st.integers(0, 10**6), st.floats(0.001, 1.0))
def test_ten_percent_of_noise_raises_no_alarm(seed: int, gap_s: float) -> None:
    """Whatever the scale of the times."""
    rng, slowness = Random(seed), Slowness()
    for name in NAMES:
        pace = slowness.sent(name, Load(), 1, 0.0).pace
        for at in each(0, 6, DECODE_EACH_S):
            pace.gap(gap_s * rng.lognormvariate(0, 0.1), at)
    assert all(slow == Slowdown(1.0, 1.0) for slow in learned_by(slowness, FLEET, 6.0).values())


@pytest.mark.parametrize(
    ("learned", "gpu", "told"),
    [
        (None, None, None),
        (None, 1.0, Slowdown(1.0, 1.0)),
        (None, 2.0, Slowdown(2.0, 2.0)),
        (Slowdown(0.5, 1.2), None, Slowdown(0.5, 1.2)),
        (Slowdown(0.5, 1.2), 1.0, Slowdown(0.5, 1.2)),
        (Slowdown(3.0, 1.2), 2.0, Slowdown(3.0, 2.0)),
    ],
)
def test_learned_and_telemetry(learned: Slowdown | None, gpu: float | None, told: Slowdown | None) -> None:
    """The larger of both, never their product; well GPUs take nothing off what was learned."""
    assert used(learned, gpu) == told
