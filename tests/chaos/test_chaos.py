"""Replicas fail in every way there is, clients behave in every way there is, and every answer is right or says that it
is not. Nothing here measures time; see docs/resume.md."""

import gc
import os
from pathlib import Path

import pytest

from loadtest.soak.verdict import Figure, growth
from tests.chaos.remains import resumed
from tests.chaos.rounds import chaos

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

REQUESTS = 120
EXACT_SHARE = 0.8
"""Of the resumable streams, at least. Mostly it is all but those that one fault makes something else (a short JSON
body). The rest have met more failing replicas in a row than a request may ask, or a machine that stood still for a
second."""

FLAT_ROUNDS = 20
FLAT_REQUESTS = 30
RESIDENT = Figure("resident", "MB", 8.0, 0.10)
"""The whole process: gateway, fleet, clients. Seen is 0.1 MB a round, and tracemalloc knows it all: the requests,
verdicts and log lines that the test keeps to add them up, and the emulator's cache of texts and their tokens, which
ends at 2048 texts. A leak of an exchange for each request would be no more, so that objects are counted, too."""
STATM = Path("/proc/self/statm")
DESCRIPTORS = Figure("descriptors", "", 8.0)


def resident_mb() -> float:
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def test_every_answer_is_right_or_an_error(seed: int, rounds: int) -> None:
    """At the end of each round nothing is left, nothing was lost, and nothing was counted twice."""
    async with chaos(seed) as one:
        for number in range(rounds):
            await one.round(number, REQUESTS)
        assert one.share_exact() >= EXACT_SHARE
        assert resumed(one.harness) > 0


@pytest.mark.skipif(not STATM.exists(), reason="Linux tells what a process holds")
@pytest.mark.parametrize("seed", [0])
async def test_memory_is_flat(seed: int) -> None:
    """One gateway through twenty storms: its memory and its descriptors do not grow."""
    resident, descriptors = [], []
    async with chaos(seed) as one:
        for number in range(FLAT_ROUNDS):
            await one.round(number, FLAT_REQUESTS)
            resident.append(resident_mb())
            descriptors.append(float(len(os.listdir("/proc/self/fd"))))
    print("MB:", *[round(value, 1) for value in resident], "descriptors:", *descriptors)
    assert growth(RESIDENT, resident) is None
    assert growth(DESCRIPTORS, descriptors) is None
