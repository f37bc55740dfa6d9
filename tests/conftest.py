"""What all tests share."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """asyncio alone: the hot path is written for it."""
    return "asyncio"
