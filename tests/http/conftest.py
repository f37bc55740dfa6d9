"""The event loop that `gateway serve` runs on."""

import pytest


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """uvloop where there is one: its transports differ from asyncio's where it hurts."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio", {}
    return "asyncio", {"use_uvloop": True}
