"""Real vLLM replicas: processes that are started, asked, killed and started again."""

import contextlib
import ctypes
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from tests.real_vllm import environment

MODEL = "tiny"
START_S = 300.0
PATIENCE_S = 60.0
PLACES = 8
"""Requests that a replica works on at a time; more wait."""
UNHURRIED = {"vllm_xargs": {"step_s": 0.02}}
"""Of a request's body: 50 tokens a second, see `slow_steps.py`."""

FLAGS = (
    "--served-model-name", MODEL, "--host", "127.0.0.1", "--max-model-len", "8192", "--max-num-seqs", str(PLACES),
    "--dtype", "float32",  # in bfloat16 two tokens may be equally likely, and who else is in the batch decides
    "--enforce-eager", "--enable-prompt-tokens-details", "--enable-request-id-headers",
    "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--scheduling-policy", "priority",
    "--logits-processors", "slow_steps:SlowSteps",
    "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
)  # fmt: skip
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(__file__).parent),
    "TORCH_COMPILE_DISABLE": "1",  # `--enforce-eager` leaves a kernel to compile, at the first logprobs
}
_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{(.*)\})? (\S+)$", re.M)
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Replica:
    """One vLLM on a port of its own, which it keeps over restarts. Its processes are one group."""

    def __init__(self, name: str, *flags: str) -> None:
        self.name = name
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)
        self._flags = flags
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start its processes; `wait` for it before use."""
        serve = [str(environment.python().with_name("vllm")), "serve", str(environment.model())]
        self._process = subprocess.Popen(
            ["nice", *serve, *FLAGS, "--port", str(self.port), *self._flags],
            stdout=self._log,
            stderr=self._log,
            env={name: value for name, value in os.environ.items() if not name.startswith("VLLM")} | SETTINGS,
            start_new_session=True,
            preexec_fn=_die_with_the_tests,
        )

    def wait(self) -> None:
        """Return when it has answered a chat: at its first, its engine runs far ahead of what its server tells.

        AssertionError, with the end of its log, if it ends before, or takes too long.
        """
        assert self._process is not None

        def up() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{self._last_words()}")
            with contextlib.suppress(httpx.TransportError):
                return self.http.get("/health", timeout=5).status_code == 200
            return False

        wait_until(up, self._last_words, START_S)
        hello = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 2}
        self.http.post("/v1/chat/completions", json=hello).raise_for_status()

    def stop(self) -> None:
        """SIGTERM, as a deployment does it; what is left after a while is killed."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, all of it at once: no word to anyone."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def kill_engine(self) -> None:
        """SIGKILL of its EngineCore alone; the server tells its clients, and ends."""
        os.kill(self._engine(), signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile its EngineCore stands still: requests hang, the server is well, its metrics stay as they are."""
        engine = self._engine()
        os.kill(engine, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):  # killed meanwhile
                os.kill(engine, signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        self.http.close()
        self._log.close()

    def figure(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that have these labels; AssertionError if there is none."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        page = self.http.get("/metrics").text
        found = [
            float(value)
            for series, own, value in _SAMPLE.findall(page)
            if series == name and wanted <= set((own or "").split(","))
        ]
        assert found, f"{self.name} has no {name} {labels}"
        return sum(found)

    def running(self) -> float:
        return self.figure("vllm:num_requests_running")

    def busy(self) -> float:
        """Requests that it works on or keeps waiting."""
        return self.running() + self.figure("vllm:num_requests_waiting")

    def finished(self) -> float:
        """Requests that came to their end since it was started; those whose client left do not count."""
        return self.figure("vllm:request_success_total")

    def _engine(self) -> int:
        """The process id of its EngineCore."""
        assert self._process is not None
        found = subprocess.run(
            ["pgrep", "-g", str(self._process.pid), "-f", "EngineCore"], capture_output=True, text=True
        )
        (pid,) = found.stdout.split()
        return int(pid)

    def _last_words(self) -> str:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 5000))
        return self._log.read().decode(errors="replace")


def _free_port() -> int:
    """One below those that the kernel gives to connections: a replica that is down for a while must find it free."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def start_all(replicas: Sequence[Replica]) -> None:
    """Start them side by side, and wait for each."""
    for replica in replicas:
        replica.start()
    for replica in replicas:
        replica.wait()


def wait_until(true: Callable[[], bool], what: Callable[[], object] = str, patience_s: float = PATIENCE_S) -> None:
    """Return once it is; AssertionError, with what there is instead, if it never is."""
    end = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience_s} s: {what()}")
        time.sleep(0.01)


def _die_with_the_tests() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
