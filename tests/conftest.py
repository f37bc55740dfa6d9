"""What all tests share: one event loop, and the hypothesis profiles, chosen by `HYPOTHESIS_PROFILE`."""

import os

import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("deep", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture
def anyio_backend() -> str:
    """asyncio alone: the hot path is written for it."""
    return "asyncio"
