"""The routers that are compared: how each is configured, started and asked for its version.

Each at the settings that its documentation gives for this kind of traffic; docs/compare.md says which and why.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.cli.embedded import EmbeddedFleet
from gateway.core.policies import POLICIES
from loadtest.overhead.systems import System, free_port

STOP_S = 5.0
_VERSION = re.compile(r"\d+\.\d+\.\d+[\w.+-]*")
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peer:
    """One router. `command` and the file `config` know `@PORT@`, `@SERVERS@` and what else `_values` gives.

    `server`: what stands for each replica in `@SERVERS@`, by `{host}` and `{number}`. `version`: prints it.
    """

    name: str
    command: tuple[str, ...]
    version: tuple[str, ...]
    server: str = "http://{host}"
    config: str | None = None
    balance: str = ""

    @property
    def installed(self) -> bool:
        return shutil.which(self.command[0]) is not None


_PYTHON = sys.executable
_NGINX = ("nginx", "-p", "@DIR@", "-e", "@DIR@/nginx-error.log", "-c", "@CONFIG@")
_RUST = ("--host", "127.0.0.1", "--port", "@PORT@", "--policy", "cache_aware", "--prometheus-port", "@SPARE@")
_WATCHFUL = ("--health-check-interval-secs", "1", "--health-failure-threshold", "2", "--health-success-threshold", "2")


def _nginx(name: str, balance: str) -> Peer:
    return Peer(name, _NGINX, ("nginx", "-v"), "server {host};", "nginx.conf", balance)


PEERS = (
    Peer(
        "gateway",
        (_PYTHON, "-m", "gateway", "serve", "-c", "@CONFIG@"),
        (_PYTHON, "-c", "import gateway; print(gateway.__version__)"),
        "  - {{url: 'http://{host}', name: r{number}, gpus: ['emulated:{gpus}']}}",
        "gateway.yaml",
        "prefix",
    ),
    _nginx("nginx round robin", ""),
    _nginx("nginx least_conn", "least_conn;"),
    _nginx("nginx hash of session", "hash $http_x_session_id consistent;"),
    Peer(
        "HAProxy leastconn",
        ("haproxy", "-db", "-f", "@CONFIG@"),
        ("haproxy", "-v"),
        "server r{number} {host}",
        "haproxy.cfg",
    ),
    Peer(
        "Envoy least request",
        ("envoy", "-c", "@CONFIG@", "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"),
        ("envoy", "--version"),
        "- endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}",
        "envoy.yaml",
    ),
    Peer(
        "sglang-router cache_aware",
        ("sglang-router", "launch", *_RUST, *_WATCHFUL, "--log-level", "error", "--worker-urls", "@SERVERS@"),
        ("sglang-router", "--version"),
    ),
    Peer(
        "vllm-router cache_aware",
        ("vllm-router", *_RUST, *_WATCHFUL, "--log-level", "error", "--worker-urls", "@SERVERS@"),
        (
            "sh",
            "-c",
            "$(dirname $(readlink -f $(which vllm-router)))/python -c"
            " 'import importlib.metadata as m; print(m.version(\"vllm-router\"))'",
        ),
    ),
)


def gateways(policies: Sequence[str]) -> list[Peer]:
    """The gateway alone, once with each of these policies. ValueError names those that there are."""
    unknown = [policy for policy in policies if policy not in POLICIES]
    if unknown:
        raise ValueError(f"unknown policy {unknown[0]!r}; there are {', '.join(POLICIES)}")
    return [replace(PEERS[0], name=f"gateway {policy}", balance=policy) for policy in policies]


def version(peer: Peer) -> str:
    """The number, as the program tells it."""
    ran = subprocess.run(peer.version, capture_output=True, text=True, check=False)
    found = _VERSION.search(ran.stdout + ran.stderr)
    return found[0] if found else "unknown"


def render(template: str, values: dict[str, str]) -> str:
    """The template with each `@NAME@` replaced; a line of its own keeps its indentation for every line put in."""
    lines = []
    for line in template.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        for name, value in values.items():
            line = line.replace(f"@{name}@", value.replace("\n", f"\n{indent}"))
        lines.append(line)
    return "\n".join(lines) + "\n"


def _values(peer: Peer, fleet: EmbeddedFleet, port: int, directory: Path, gpus: int) -> dict[str, str]:
    hosts = [url.removeprefix("http://") for url in fleet.urls]
    servers = [
        peer.server.format(
            host=host, number=number, ip=host.partition(":")[0], port=host.partition(":")[2], gpus=number * gpus
        )
        for number, host in enumerate(hosts)
    ]
    return {
        "PORT": str(port),
        "SPARE": str(free_port()),
        "DIR": str(directory),
        "CONFIG": str(directory / (peer.config or "config")),
        "GPUS": fleet.gpu_url,
        "BALANCE": peer.balance,
        "SERVERS": "\n".join(servers),
    }


@contextlib.contextmanager
def started(peer: Peer, fleet: EmbeddedFleet, directory: Path, *, gpus: int) -> Iterator[System]:
    """The router in front of this fleet, ended on the way out; it may not answer yet. `gpus`: of each replica."""
    port = free_port()
    values = _values(peer, fleet, port, directory, gpus)
    if peer.config is not None:
        Path(values["CONFIG"]).write_text(render((_HERE / peer.config).read_text(), values))
    words = [part for word in peer.command for part in (values["SERVERS"].split() if word == "@SERVERS@" else [word])]
    command = [render(word, values).rstrip("\n") for word in words]
    with (directory / f"{peer.name.replace(' ', '-')}.log").open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield System(peer.name, port, child.pid)
    finally:
        _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """It has a process group of its own, so that what it started ends with it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_S)
