"""The composition root: the only place that knows all parts. It builds them, runs them, and stops them in order."""

import functools
import itertools
import logging
import secrets
import ssl
import sys
from collections.abc import Callable, Iterable

import anyio
import anyio.to_thread
import httpx
import uvicorn
from anyio.abc import TaskStatus
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway import __version__
from gateway.api import admin_app, public_app
from gateway.api.dashboard import DashboardState, replica_row
from gateway.api.members import Members
from gateway.api.stored import StoredResponses
from gateway.clock import Clock, SystemClock
from gateway.config import Config, public
from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books
from gateway.core.explain import Asked, Explanation
from gateway.core.fleet import Board
from gateway.core.gpu import Gpus
from gateway.core.health import Rules
from gateway.core.hedging import Hedging
from gateway.core.slowdown import Slowness
from gateway.core.types import FleetSnapshot, HealthReading, ReplicaId, ReplicaView, Sign
from gateway.observability.access_log import AccessLog
from gateway.observability.ledger import Ledger
from gateway.observability.metrics import Metrics
from gateway.observability.recent import Recent
from gateway.observability.records import RequestRecord
from gateway.reload.discoverer import Discoverer
from gateway.reload.effect import add_entry, limits_of, policy_of, take_effect
from gateway.reload.leftovers import Leftovers
from gateway.reload.reloader import Origin, Reloader, reload_row
from gateway.reload.roster import Roster
from gateway.serving.cors import CorsFront
from gateway.serving.desk import Desk
from gateway.serving.front import Front
from gateway.serving.server import Listeners, Server, bind, url_of
from gateway.serving.upstream import Pool
from gateway.serving.watchdog import Watchdog
from gateway.watches import watches

log = logging.getLogger("gateway.app")

LOG_FLUSH_S = 0.2
"""How long a log line may wait: writing each by itself would cost the hot path a system call."""

POOL_EXPIRE_S = 1.0

TELEMETRY_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0)
"""As many as there are replicas: one that is slow must not take another's place. vLLM closes idle ones after 5 s."""

LAST_WORDS_S = 1.0
"""After the drain: how long the error events of cut streams may take to leave."""


class Gateway:
    """All parts, wired, the ports open. `run` serves until a signal or `stop`. Raises `OSError` if a port is taken."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        write_log: Callable[[bytes], object] = sys.stdout.buffer.write,
        signals: bool = True,
        origin: Origin | None = None,
        listeners: Listeners | None = None,
    ) -> None:
        """`origin`: where the config can be had anew; without one it stays as it is, and SIGHUP is not heeded."""
        self.config = config
        self.clock = clock or SystemClock()
        probe = config.resilience.probe
        replicas = tuple(ReplicaView(entry.replica()) for entry in config.replicas)
        self.board = Board(FleetSnapshot(replicas), Rules(fall=probe.fall, rise=probe.rise))
        self.books = Books()
        self.index = PrefixIndex()
        self.metrics = Metrics(CollectorRegistry(), self.board, self.books, self.index, self.clock.monotonic)
        self.log = AccessLog(write_log)
        self.recent = Recent(self.clock.monotonic)
        self._tls = ssl.create_default_context()
        self.pool = Pool(self.clock, self._tls)
        self.watchdog = Watchdog(self.clock)
        self.desk = self._desk()
        self.leftovers = self._leftovers()
        self.roster = self._roster()
        failures = self.metrics.unread.labels("discovery")
        self.discoverer = Discoverer(config.discovery, self.clock, self.roster.discovered, failures.inc)
        self.reloader = Reloader(origin, self.clock, lambda: self.config, self._take) if origin else None
        self._signals = signals
        self.gpus = Gpus(stale_after_s=config.telemetry.gpu.stale_after_s)
        self._started_at = self.clock.monotonic()
        self.stopped = anyio.Event()
        self.public = self._public_server(signals)
        self.admin = self._admin_server()
        bind(self.public, self.admin, listeners or Listeners())
        self.url = url_of(config.server.host, self.public.port, tls=config.server.tls.cert is not None)
        self.admin_url = url_of(config.admin.host, self.admin.port)

    # life

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until a signal or `stop`, drain, and leave nothing behind. Ready when `task_status` is told."""
        timeout_s = self.config.telemetry.engine.timeout_s
        http = httpx.AsyncClient(timeout=timeout_s, limits=TELEMETRY_CONNECTIONS, trust_env=False, verify=self._tls)
        async with http, anyio.create_task_group() as background:
            background.start_soon(self.watchdog.run)
            background.start_soon(self._flush_log)
            background.start_soon(self._expire_pool)
            for watch in watches(self.config, self.desk, self.gpus, self.metrics, http):
                background.start_soon(watch)
            background.start_soon(self.roster.run)
            background.start_soon(self.discoverer.run)
            if self.reloader is not None:
                background.start_soon(self.reloader.watch)
                if self._signals:
                    background.start_soon(self.reloader.heed_signals)
            background.start_soon(self._report_start, task_status)
            try:
                async with anyio.create_task_group() as servers:
                    servers.start_soon(self.admin.serve_bound)
                    await self.public.serve_bound()
                    await self._finish_streams()
                    self.admin.should_exit = True
            finally:
                background.cancel_scope.cancel()
        self.pool.close()
        self.log.flush()
        self.stopped.set()

    def stop(self) -> None:
        """Begin to drain; `run` returns when the streams have finished, or after `drain_timeout_s`."""
        self.desk.draining = True
        self.public.should_exit = True

    def retire(self) -> None:
        """Leave the port to the processes that share it: nothing is refused, and `run` returns as after `stop`."""
        self.desk.retiring = True
        for front in self._fronts():
            front.retire()
        self.public.retire()

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C that stopped it."""
        return self.public.interrupted

    async def _report_start(self, task_status: TaskStatus[None]) -> None:
        while not (self.public.started and self.admin.started):
            await anyio.sleep(0.01)
        task_status.started()

    async def _finish_streams(self) -> None:
        """The drain is over: what is still open ends with an error event."""
        for front in self._fronts():
            front.drain()
        with anyio.move_on_after(LAST_WORDS_S):
            while self.public.server_state.connections:
                await anyio.sleep(0.01)

    def _fronts(self) -> list[Front]:
        connections: Iterable[object] = self.public.server_state.connections
        return [front for front in connections if isinstance(front, Front)]

    async def _flush_log(self) -> None:
        while True:
            await anyio.sleep(LOG_FLUSH_S)
            if self.log.waiting:
                await anyio.to_thread.run_sync(self.log.flush)

    async def _expire_pool(self) -> None:
        while True:
            await anyio.sleep(POOL_EXPIRE_S)
            self.pool.expire()

    # parts

    def _desk(self) -> Desk:
        config = self.config
        return Desk(
            self.clock,
            self.board,
            self.books,
            self.index,
            policy_of(config),
            self.pool,
            Ledger(self.metrics, self._listeners()),
            limits_of(config),
            aliases=config.models.aliases,
            slowness=Slowness(learn=config.telemetry.learned),
            hedging=Hedging(config.resilience.hedge_after_s),
        )

    def _leftovers(self) -> Leftovers:
        desk = self.desk
        return Leftovers(
            self.board, self.clock, self.books, self.index, self.pool, desk.slowness, desk.ledger, self.recent
        )

    def _roster(self) -> Roster:
        configured = [entry.replica() for entry in self.config.replicas]
        drain_s = self.config.server.drain_timeout_s
        return Roster(self.board, self.clock, self.books, self.leftovers, configured, drain_timeout_s=drain_s)

    def _public_server(self, signals: bool) -> Server:
        server = self.config.server
        prefix, numbers = secrets.token_hex(4), itertools.count(1)
        app = self._public_app()
        make = functools.partial(CorsFront, server.cors_origins) if server.cors_origins else Front

        def front(
            config: uvicorn.Config,
            server_state: ServerState,
            app_state: dict[str, object],
            _loop: object = None,
        ) -> Front:
            return make(
                self.desk,
                self.watchdog,
                server_state.connections,  # type: ignore[arg-type]  # uvicorn names its own protocols only
                lambda: f"{prefix}-{next(numbers):x}",
                lambda: HttpToolsProtocol(config, server_state, app_state),
            )

        config = uvicorn.Config(
            app,
            host=server.host,
            port=server.port,
            http=front,  # type: ignore[arg-type]  # any callable that makes a protocol will do
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=max(1, round(server.drain_timeout_s)),
            ssl_certfile=server.tls.cert,
            ssl_keyfile=server.tls.key,
            ssl_ca_certs=server.tls.client_ca,
            ssl_cert_reqs=ssl.CERT_REQUIRED if server.tls.client_ca else ssl.CERT_NONE,
        )
        return Server(config, self.stop, signals=signals)

    def _public_app(self) -> ASGIApp:
        server, limits = self.config.server, self.desk.limits
        return public_app(
            self.board,
            lambda: self.desk.draining,
            aliases=lambda: self.desk.aliases,
            cors_origins=server.cors_origins,
            read_timeout_s=server.request_read_timeout_s,
            stored=StoredResponses(
                self.board,
                self._tls,
                connect_timeout_s=limits.connect_timeout_s,
                idle_timeout_s=limits.idle_timeout_s,
            ),
        )

    def _admin_server(self) -> Server:
        admin = self.config.admin
        app = admin_app(
            render_metrics=self.metrics.render,
            state=self._state,
            config=lambda: public(self.config),
            explain=self._explain,
            max_body_bytes=self.config.server.max_body_bytes,
            token=admin.token,
            command=self._command,
            members=Members(
                functools.partial(add_entry, self.roster), lambda name: self.roster.remove(ReplicaId(name))
            ),
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
        return Server(config, lambda: None, signals=False)

    def _listeners(self) -> list[Callable[[RequestRecord], None]]:
        """Who hears of a request's end. A request's line is of level `info`."""
        logged = self.config.logging.level in ("debug", "info")
        return [self.recent.add, self.log.add] if logged else [self.recent.add]

    def _explain(self, asked: Asked) -> Explanation:
        """What would be decided of it now. Nothing is recorded."""
        desk = self.desk
        facts = desk.parse(asked.endpoint, asked.content_type, asked.body, asked.session)
        return desk.explain(facts, desk.index.match(facts.blocks))

    def _command(self, name: str, sign: Sign) -> bool:
        """Drain one replica, or let it resume; whether there is one of this name."""
        replica = ReplicaId(name)
        if replica not in self.roster.wanted():  # one that leaves drains anyway, and does not resume
            return False
        self.board.fold(HealthReading(replica, sign), self.clock.monotonic())
        log.info("replica %s was told to %s", name, sign.value)
        return True

    def _take(self, config: Config) -> None:
        """The config was reloaded."""
        take_effect(self.config, config, self.desk, self.roster, self.discoverer)
        self.config = config

    def _state(self) -> DashboardState:
        total = self.recent.figures()
        return DashboardState(
            version=__version__,
            policy=self.desk.policy.name,
            uptime_s=self.clock.monotonic() - self._started_at,
            draining=self.desk.draining,
            in_flight=self.books.total_in_flight(),
            requests=total.requests,
            failures=total.failures,
            requests_per_s=total.requests_per_s,
            tokens_per_s=total.tokens_per_s,
            ttft_p50_s=total.ttft_p50_s,
            ttft_p95_s=total.ttft_p95_s,
            replicas=[
                replica_row(view, self.books[view.id].own[1], self.recent.figures(view.id), self.clock.monotonic())
                for view in self.board.current.replicas
            ],
            reload=reload_row(self.reloader) if self.reloader else None,
        )
