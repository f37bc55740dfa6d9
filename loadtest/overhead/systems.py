"""Start, pin, measure and stop the processes of a run. Linux only: the figures come from /proc.

Every process started here is ended by its id when `Processes` is left, also on Ctrl-C and SIGTERM.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_S = 5.0  # for each of SIGINT and SIGTERM, before SIGKILL
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

NGINX = """\
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx-error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  client_body_buffer_size 64k; client_max_body_size 64m;  # a 32 KB body stays in memory
  upstream replicas {{ {servers} keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://replicas; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _family(root: int) -> list[int]:
    """`root` and its living descendants; empty when `root` is gone."""
    children: dict[int, list[int]] = {}
    alive = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name, in parentheses, may hold spaces; the parent's id is the second field after it.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            alive.add(int(entry.name))
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    family = [root] if root in alive else []
    for pid in family:  # grows while it is read
        family.extend(children.get(pid, []))
    return family


def _stat_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _cpu_s(pid: int) -> float:
    """CPU seconds of one process: its threads' nanoseconds where the kernel keeps them, else utime + stime (10 ms)."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except FileNotFoundError:
        return _stat_cpu_s(pid)


@dataclass(frozen=True, slots=True)
class System:
    """A system under test: its name in the table, the port it serves and the root of its process tree."""

    name: str
    port: int
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds of the whole tree so far, kernel time included."""
        return sum(_cpu_s(pid) for pid in _family(self.pid))

    def resident_mb(self) -> float:
        """Resident MB (10^6 bytes) of the whole tree; pages that processes share count once for each."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _family(self.pid))
        return pages * PAGE_BYTES / 1e6


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a system: its name and its command template; no template is nginx."""

    name: str
    template: str | None
    log_level: str | None = None


@dataclass(slots=True)
class Processes:
    """Context that owns the processes of a run; logs and configs go to `directory`."""

    directory: Path
    cores: tuple[int, int]  # system under test; load generator and mocks
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An impatient second Ctrl-C must not leave processes behind; what follows takes seconds at most.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(self._running):
            self._end(process)

    def mocks(self, replicas: int = 2) -> list[int]:
        """Start the mock replicas, in one process on the load's core; their ports."""
        command = [sys.executable, "-m", "loadtest.overhead.mock", "--replicas", str(replicas)]
        process = self._spawn("mock", command, self.cores[1], stdout=subprocess.PIPE)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the mock did not start: {self._last_words('mock')}")
        return [int(port) for port in json.loads(line)]

    def start(self, launch: Launch, upstreams: list[int]) -> System:
        """Start a system on its core; it may not answer yet."""
        port = free_port()
        command = self._command(launch, port, upstreams)
        process = self._spawn(launch.name, command, self.cores[0])
        return System(launch.name, port, process.pid)

    def stop(self, system: System) -> None:
        """End one system's whole tree before the run ends."""
        for process in [p for p in self._running if p.pid == system.pid]:
            self._end(process)
            self._running.remove(process)

    def check(self, system: System) -> None:
        """Raise RuntimeError with the end of its log when the system has exited."""
        for process in self._running:
            if process.pid == system.pid and process.poll() is not None:
                raise RuntimeError(f"{system.name} exited with {process.returncode}: {self._last_words(system.name)}")

    def _command(self, launch: Launch, port: int, upstreams: list[int]) -> list[str]:
        if launch.template is None:
            config = self.directory / "nginx.conf"
            servers = " ".join(f"server 127.0.0.1:{p};" for p in upstreams)
            config.write_text(NGINX.format(dir=self.directory, port=port, servers=servers))
            return [
                "nginx",
                "-p",
                str(self.directory),
                "-e",
                str(self.directory / "nginx-error.log"),
                "-c",
                str(config),
            ]
        config = self.directory / f"{launch.name}.yaml"
        config.write_text(gateway_config(port, upstreams, launch.log_level))
        values = {
            "python": sys.executable,
            "port": str(port),
            "config": str(config),
            "upstreams": ",".join(f"http://127.0.0.1:{p}" for p in upstreams),
            "upstream_ports": ",".join(map(str, upstreams)),
        }
        return [word.format(**values) for word in shlex.split(launch.template)]

    def _spawn(self, name: str, command: list[str], core: int, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Start on one core: a child inherits the affinity of the moment, so that no thread of it is ever elsewhere."""
        own = os.sched_getaffinity(0)
        with (self.directory / f"{name}.log").open("ab") as log:
            os.sched_setaffinity(0, {core})
            try:
                # A session of its own: Ctrl-C reaches it through `_end` only, after the last reading.
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log, start_new_session=True
                )
            finally:
                os.sched_setaffinity(0, own)
        self._running.append(process)
        return process

    def _last_words(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")[-600:].strip() or "(no output)"

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        """SIGINT (so that a profiler writes its file), SIGTERM, then SIGKILL for whatever of the tree is left."""
        family = _family(process.pid)
        for number in (signal.SIGINT, signal.SIGTERM):
            if process.poll() is None:
                process.send_signal(number)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    continue
        for pid in family:
            if pid != process.pid or process.poll() is None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # went with its parent, as it should
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def gateway_config(port: int, upstreams: list[int], log_level: str | None) -> str:
    """A gateway's config: defaults, but for the ports, the replicas and, where asked for, the log level."""
    lines = [
        f"server: {{host: 127.0.0.1, port: {port}}}",
        f"admin: {{host: 127.0.0.1, port: {free_port()}}}",
        "replicas:",
    ]
    lines += [f"  - {{url: 'http://127.0.0.1:{p}', name: mock{i}, engine: vllm}}" for i, p in enumerate(upstreams)]
    if log_level is not None:
        lines.append(f"logging: {{level: {log_level}}}")
    return "\n".join(lines) + "\n"


def wait_for_port(port: int, limit_s: float) -> bool:
    """True once something listens, False after `limit_s`."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False
