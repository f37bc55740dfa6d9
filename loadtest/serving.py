"""The gateway as a process of its own before whatever a config names, for what it is to live through."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtest.overhead.systems import System, free_port, wait_for_port

START_S = 10.0
STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway that serves. `log`: its request lines, and what else it said."""

    system: System
    admin_url: str
    log: Path


@contextlib.contextmanager
def serving(config: str, directory: Path) -> Iterator[Serving]:
    """`gateway serve` with this config, in which `{port}` and `{admin}` stand for its ports; ended on the way out.

    Raises `RuntimeError` with its last words if it does not listen.
    """
    port, admin = free_port(), free_port()
    file, log_file = directory / "gateway.yaml", directory / "gateway.log"
    file.write_text(config.replace("{port}", str(port)).replace("{admin}", str(admin)))
    with log_file.open("wb") as log:
        command = [sys.executable, "-m", "gateway", "serve", "-c", str(file)]
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        if not wait_for_port(port, START_S):
            raise RuntimeError(f"the gateway did not start: {log_file.read_text()[-600:]}")
        yield Serving(System("gateway", port, child.pid), f"http://127.0.0.1:{admin}", log_file)
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
