"""Locust as people start it, against `gateway serve`."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import serving

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STREAMED = {"POST", "TTFT", "ITL", "TPOT", "tokens/s", "cached %"}


@pytest.fixture(autouse=True)
def locust() -> None:
    """Not imported here: gevent would patch the tests' own sockets."""
    if subprocess.run([sys.executable, "-c", "import locust"], capture_output=True).returncode:
        pytest.skip("no locust: `make clients`")


def rows(
    tmp_path: Path, *arguments: str
) -> tuple[subprocess.CompletedProcess[str], dict[tuple[str, str], dict[str, str]]]:
    """A short run, and its CSV: (type, name) -> row."""
    with serving() as gateway:
        host = gateway.api_url.removesuffix("/v1")
        command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary"]
        command += ["--host", host, "-r", "10", "-t", "8s", "--csv", str(tmp_path / "run"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=ROOT)
    with (tmp_path / "run_stats.csv").open() as file:
        return done, {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}


def test_all_kinds_mixed(tmp_path: Path) -> None:
    """Every kind has its rows, with percentiles, nothing fails, and the sums are printed."""
    done, seen = rows(tmp_path, "-u", "11")
    assert done.returncode == 0, done.stderr
    for kind in ("character", "agent", "rag"):
        assert {row for row, name in seen if name == kind} == STREAMED
        assert float(seen[("TTFT", kind)]["99%"]) >= float(seen[("TTFT", kind)]["50%"]) > 0
        assert f"{kind}: " in done.stdout
    assert {row for row, name in seen if name == "batch"} == {"POST", "tokens/s", "cached %"}
    asked = sum(int(row["Request Count"]) for (kind, _), row in seen.items() if kind in ("POST", "GET"))
    assert int(seen[("", "Aggregated")]["Request Count"]) == asked


def test_one_kind_against_a_model_that_is_not_there(tmp_path: Path) -> None:
    """Failures are failed POSTs, measured in no other row, and the exit code is 1."""
    done, seen = rows(tmp_path, "-u", "2", "--model", "none", "CharacterUser")
    assert done.returncode == 1
    assert set(seen) == {("POST", "character"), ("", "Aggregated")}
    assert "model_not_found" in done.stdout + done.stderr
