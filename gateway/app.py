"""The composition root: the only place that knows all parts. It builds them, runs them, and stops them in order."""

import contextlib
import itertools
import logging
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import anyio
import anyio.to_thread
import httpx
import uvicorn
from anyio.abc import TaskStatus
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.api import admin_app, public_app
from gateway.clock import Clock, SystemClock
from gateway.config import Config
from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.policies import POLICIES, Policy
from gateway.core.types import FleetSnapshot, ReplicaView
from gateway.observability.access_log import AccessLog
from gateway.observability.ledger import Ledger
from gateway.observability.metrics import Metrics
from gateway.serving.exchange import Desk, Limits
from gateway.serving.front import Front
from gateway.serving.upstream import Pool
from gateway.serving.watchdog import Watchdog
from gateway.telemetry.models import ModelsPoller

LOG_FLUSH_S = 0.2
"""How long a log line may wait: writing each by itself would cost the hot path a system call."""

POOL_EXPIRE_S = 1.0

LAST_WORDS_S = 1.0
"""After the drain: how long the error events of cut streams may take to leave."""


class _Server(uvicorn.Server):
    """uvicorn's server, which tells of a stop before it begins, and leaves the signal at that."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None], *, signals: bool) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._signals = signals and threading.current_thread() is threading.main_thread()
        self.interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted = self.interrupted or sig == signal.SIGINT
        self._stopping()
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again at the end, before the log is written and the pool closed.
        if not self._signals:
            yield
            return
        old = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in old.items():
                signal.signal(sig, handler)

    @property
    def port(self) -> int:
        """The port it listens on, also when it was asked for any free one."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


class Gateway:
    """All parts, wired. `run` serves until a signal or `stop`."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        write_log: Callable[[bytes], object] = sys.stdout.buffer.write,
        signals: bool = True,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.board = Board(FleetSnapshot(tuple(ReplicaView(entry.replica()) for entry in config.replicas)))
        self.books = Books()
        self.metrics = Metrics(CollectorRegistry(), self.board, self.books)
        self.log = AccessLog(write_log)
        self.pool = Pool(self.clock)
        self.watchdog = Watchdog(self.clock)
        self.desk = Desk(
            self.clock,
            self.board,
            self.books,
            _policy(config),
            self.pool,
            Ledger(self.metrics, (self.log.add,)),
            _limits(config),
        )
        self._started_at = self.clock.monotonic()
        self.public = self._public_server(signals)
        self.admin = self._admin_server()

    # life

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until a signal or `stop`, drain, and leave nothing behind. Ready when `task_status` is told."""
        async with httpx.AsyncClient(timeout=self.config.telemetry.engine.timeout_s) as http:
            async with anyio.create_task_group() as background:
                background.start_soon(self.watchdog.run)
                background.start_soon(self._flush_log)
                background.start_soon(self._expire_pool)
                background.start_soon(self._poller(http).run)
                background.start_soon(self._serve_admin)
                background.start_soon(self._report_start, task_status)
                await self.public.serve()
                await self._finish_streams()
                self.admin.should_exit = True
                background.cancel_scope.cancel()
            self.pool.close()
            self.log.flush()

    def stop(self) -> None:
        """Begin to drain; `run` returns when the streams have finished, or after `drain_timeout_s`."""
        self.desk.draining = True
        self.public.should_exit = True

    @property
    def url(self) -> str:
        return f"http://{self.config.server.host}:{self.public.port}"

    @property
    def admin_url(self) -> str:
        return f"http://{self.config.admin.host}:{self.admin.port}"

    async def _report_start(self, task_status: TaskStatus[None]) -> None:
        while not (self.public.started and self.admin.started):
            await anyio.sleep(0.01)
        task_status.started()

    async def _finish_streams(self) -> None:
        """The drain is over: what is still open ends with an error event."""
        fronts = [front for front in self.public.server_state.connections if isinstance(front, Front)]
        for front in fronts:
            front.drain()
        with anyio.move_on_after(LAST_WORDS_S):
            while self.public.server_state.connections:
                await anyio.sleep(0.01)

    async def _flush_log(self) -> None:
        while True:
            await anyio.sleep(LOG_FLUSH_S)
            await anyio.to_thread.run_sync(self.log.flush)

    async def _expire_pool(self) -> None:
        while True:
            await anyio.sleep(POOL_EXPIRE_S)
            self.pool.expire()

    # parts

    def _public_server(self, signals: bool) -> "_Server":
        server = self.config.server
        prefix, numbers = secrets.token_hex(4), itertools.count(1)
        app = public_app(self.board, draining=lambda: self.desk.draining)

        def front(
            config: uvicorn.Config,
            server_state: ServerState,
            app_state: dict[str, object],
            _loop: object = None,
        ) -> Front:
            return Front(
                self.desk,
                self.watchdog,
                server_state.connections,
                lambda: f"{prefix}-{next(numbers):x}",
                lambda: HttpToolsProtocol(config, server_state, app_state),
            )

        config = uvicorn.Config(
            app,
            host=server.host,
            port=server.port,
            http=front,
            lifespan="off",
            log_config=None,
            access_log=False,
            backlog=2048,
            timeout_graceful_shutdown=max(1, round(server.drain_timeout_s)),
            ssl_certfile=server.tls.cert,
            ssl_keyfile=server.tls.key,
            ssl_ca_certs=server.tls.client_ca,
            ssl_cert_reqs=ssl.CERT_REQUIRED if server.tls.client_ca else ssl.CERT_NONE,
        )
        return _Server(config, self.stop, signals=signals)

    def _admin_server(self) -> "_Server":
        admin = self.config.admin
        app = admin_app(
            board=self.board,
            render_metrics=self.metrics.render,
            state=self._state,
            config=self.config.shown,
            token=admin.token,
        )
        config = uvicorn.Config(
            app,
            host=admin.host,
            port=admin.port,
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        return _Server(config, lambda: None, signals=False)
