"""A fleet on real sockets, and clients for it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.emulator.fleet import Fleet


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with Fleet(2, speed=50, control_port=0) as fleet:
        yield fleet


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the first replica."""
    async with httpx.AsyncClient(base_url=fleet.urls[0], timeout=20) as client:
        yield client
