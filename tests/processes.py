"""The `gateway` command as a real process, and what it says."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

FREE_PORTS = {"GATEWAY_SERVER__PORT": "0", "GATEWAY_ADMIN__PORT": "0"}


class Command:
    """A running command. Its stderr is read line by line, its stdout (request lines) goes to a file."""

    def __init__(self, arguments: Sequence[str], env: dict[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *arguments],
            stdout=self._log,
            stderr=subprocess.PIPE,
            text=True,
            env=clean | FREE_PORTS | env,
        )
        self.said: list[str] = []

    def line(self, beginning: str) -> str:
        """The next line of stderr that begins so, without its beginning. AssertionError if the process ends first."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()
        raise AssertionError(f"ended with {self.process.wait()} before it said {beginning!r}:\n{''.join(self.said)}")

    def all(self) -> str:
        """All of stderr, to its end: neither the process nor any child of it holds it open any more."""
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)
        return "".join(self.said)

    def log(self) -> bytes:
        """The request lines so far."""
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        """Kill what still runs, the children with it: they notice."""
        self.process.kill()
        self.process.wait()
        self.all()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self._log.close()


@contextmanager
def command(*arguments: str, **env: str) -> Iterator[Command]:
    """`gateway ARGUMENTS` on free ports; killed if it still runs at the end."""
    started = Command(arguments, env)
    try:
        yield started
    finally:
        started.close()


class Serving:
    """What `gateway serve` greets with."""

    def __init__(self, started: Command) -> None:
        self.command = started
        self.api_url = started.line("API ")
        self.dashboard_url = started.line("dashboard ")
        self.admin_url = self.dashboard_url.removesuffix("/dashboard")
        self.curl = shlex.split(started.line("try "))

    def replicas(self) -> list[str]:
        """The URLs of the replicas."""
        state = httpx.get(f"{self.dashboard_url}/state.json", trust_env=False).json()
        return [replica["url"] for replica in state["replicas"]]


@contextmanager
def serving(*arguments: str, **env: str) -> Iterator[Serving]:
    """`gateway serve` that has told where it serves."""
    with command("serve", *arguments, **env) as started:
        yield Serving(started)
