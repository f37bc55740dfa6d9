"""One gateway process with its embedded fleet, for the clients of other makers."""

import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.browser.conftest import chromium
from tests.processes import serving

__all__ = ["chromium"]

HELLO = "Hello!"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


@pytest.fixture(scope="session")
def api_url() -> Iterator[str]:
    """Its base URL, with /v1, as the clients' makers have it in their examples."""
    with serving() as gateway:
        yield gateway.api_url


@pytest.fixture
def program() -> Callable[[str, str], str]:
    """Where a program is. Without it the test is skipped, and under CI it fails, so that it cannot rot unseen."""

    def find(name: str, advice: str) -> str:
        path = shutil.which(name)
        if path is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {name}: {advice}")
        return path

    return find
