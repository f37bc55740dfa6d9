"""An emulated fleet as a child process: it does not share the gateway's loop, and it ends with the gateway."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

STOP_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class EmbeddedFleet:
    """Where its replicas listen, where it takes faults, and where its GPUs are shown as dcgm-exporter would.

    `pid`: its process, for who measures it.
    """

    pid: int
    urls: list[str]
    control_url: str
    gpu_url: str


@contextlib.contextmanager
def embedded_fleet(replicas: int, *, speed: float = 1.0, options: Sequence[str] = ()) -> Iterator[EmbeddedFleet]:
    """A running fleet, which is stopped on the way out; `options`: more of `gateway emulate`.

    Raises `RuntimeError` if it does not start.
    """
    command = [sys.executable, "-m", "gateway", "emulate", "--exit-with-parent", str(os.getpid())]
    command += ["--replicas", str(replicas), "--speed", str(speed)]
    command += ["--port", "0", "--control-port", "0", "--gpu-port", "0", *options]
    # A session of its own: Ctrl-C on the terminal stops the gateway, which lets its streams finish first.
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield _greeting(child)
    finally:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        assert child.stdout is not None
        child.stdout.close()


def _greeting(child: "subprocess.Popen[str]") -> EmbeddedFleet:
    assert child.stdout is not None
    urls: list[str] = []
    control_url = gpu_url = ""
    for line in child.stdout:
        match line.split():
            case ["ready"]:
                return EmbeddedFleet(child.pid, urls, control_url, gpu_url)
            case ["control", url]:
                control_url = url
            case ["gpus", url]:
                gpu_url = f"{url}/metrics"
            case [url]:
                urls.append(url)
    raise RuntimeError(f"the emulated fleet did not start (exit code {child.wait()})")
