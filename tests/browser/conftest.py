"""A real browser, and the dashboard's page as it has rendered it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Render = Callable[[str], str]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture
def chromium() -> str:
    """Its path. Where CI is set, a missing browser is a failure, so that these tests cannot rot unseen."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        advice = "no Chromium: `apt-get install chromium`, or run with `-m 'not browser'`"
        if os.environ.get("CI"):
            pytest.fail(advice)
        pytest.skip(advice)
    return path


@pytest.fixture
def render(chromium: str, tmp_path: Path) -> Render:
    """The DOM of an address, some seconds of the page's own time after it was opened."""

    def dom(url: str) -> str:
        command = [chromium, *FLAGS, "--virtual-time-budget=6000", "--dump-dom", f"--user-data-dir={tmp_path}", url]
        done = subprocess.run(command, capture_output=True, timeout=90, check=True)
        return done.stdout.decode()

    return dom
