"""Which seeds are run, and on which event loop. `CHAOS_SEEDS=7,10-19` runs others, `CHAOS_ROUNDS=20` longer."""

import os

import pytest

pytest.register_assert_rewrite("tests.chaos.verdict", "tests.chaos.remains")


def seeds() -> list[int]:
    """Those of `CHAOS_SEEDS`, else the few that every run of the suite has."""
    found: list[int] = []
    for part in os.environ.get("CHAOS_SEEDS", "1-2").split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@pytest.fixture(params=seeds())
def seed(request: pytest.FixtureRequest) -> int:
    """All that happens follows from it, but for the order in which sockets and timers are served."""
    return int(request.param)


@pytest.fixture
def rounds() -> int:
    """How many of them a gateway lives through."""
    return int(os.environ.get("CHAOS_ROUNDS", "2"))


@pytest.fixture
def anyio_backend(seed: int) -> tuple[str, dict[str, bool]]:
    """The loop that `gateway serve` runs on where there is one; asyncio's for odd seeds."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio", {}
    return "asyncio", {"use_uvloop": seed % 2 == 0}
