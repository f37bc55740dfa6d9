"""`gateway serve`: the gateway, in front of the configured replicas or of an embedded emulated fleet."""

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import uvicorn

from gateway.api.dashboard import DashboardState, ReplicaRow
from gateway.api.gathered import Peer
from gateway.app import Gateway
from gateway.cli.crew import Crew
from gateway.cli.embedded import EmbeddedFleet, embedded_fleet
from gateway.cli.loading import add_config_option, load_or_report
from gateway.cli.member import Channel, write_lines
from gateway.config import Config, Discovery, ReplicaConfig, load
from gateway.config.keys import GpuSource
from gateway.core.types import ReplicaState
from gateway.emulator.dcgm import HOSTNAME
from gateway.observability.logs import configure
from gateway.reload.reloader import Origin
from gateway.serving.server import Listeners, listen, url_of

EMBEDDED_REPLICAS = 4
FIRST_ANSWER_S = 5.0
"""How long the greeting waits for a replica's first answer, to name a model that works."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("serve", help="serve the OpenAI-compatible API", description=__doc__)
    add_config_option(parser)
    parser.add_argument("--host", help="address of the API, over the config's server.host")
    parser.add_argument("--port", type=_port, help="port of the API, over the config's server.port")
    parser.add_argument(
        "--listen-fd", type=int, metavar="N", help="a listening socket to inherit for the API, as systemd passes it (3)"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # how a process of `server.workers` is told what it is
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM (0) or Ctrl-C (130). 2: the config is wrong, or a port is taken."""
    config = load_or_report(args.config)
    if config is None:
        return 2
    config = _with_address(config, args.host, args.port)
    configure(config.logging.format, config.logging.level)
    if args.worker is not None:
        return _serve_as_member(config, Channel(args.worker), _origin(args, None))
    inherited = None if args.listen_fd is None else socket.socket(fileno=args.listen_fd)
    with contextlib.ExitStack() as stack:
        fleet = None
        if _is_empty(config):
            fleet = stack.enter_context(embedded_fleet(EMBEDDED_REPLICAS))
            config = with_fleet(config, fleet)
            print(
                f"no replicas are configured: serving an embedded fleet of {len(fleet.urls)} emulated ones\n"
                f"GPUs       {fleet.gpu_url}",
                file=sys.stderr,
            )
        try:
            if config.server.workers > 1:
                return _serve_as_crew(config, args.config, _of_fleet(config) if fleet else {}, inherited)
            gateway = Gateway(config, origin=_origin(args, fleet), listeners=Listeners(inherited))
        except OSError as error:
            print(error.strerror or error, file=sys.stderr)
            return 2
        return serve(gateway, greet)


def _load_again(args: argparse.Namespace, fleet: EmbeddedFleet | None) -> Config:
    """The config as it is now, for a reload. Raises `ConfigErrors`."""
    config = _with_address(load(args.config, os.environ), args.host, args.port)
    return with_fleet(config, fleet) if fleet is not None and _is_empty(config) else config


def _origin(args: argparse.Namespace, fleet: EmbeddedFleet | None) -> Origin:
    return Origin(partial(_load_again, args, fleet), args.config)


def _is_empty(config: Config) -> bool:
    """Whether the config names no replica, and nothing that finds any."""
    return not config.replicas and config.discovery == Discovery()


def _serve_as_member(config: Config, channel: Channel, origin: Origin) -> int:
    gateway = Gateway(config, origin=origin, listeners=channel.listeners, write_log=write_lines)
    with channel.last_words(gateway):
        return serve(gateway, channel.attend)


def _serve_as_crew(config: Config, file: Path | None, env: Mapping[str, str], inherited: socket.socket | None) -> int:
    """Open the ports and run `server.workers` processes. Raises `OSError` if a port is taken."""
    server, admin = config.server, config.admin
    with inherited or listen(server.host, server.port) as public, listen(admin.host, admin.port) as private:
        command = [sys.executable, "-m", "gateway", "serve", *(["-c", str(file)] if file is not None else [])]
        crew = Crew(server.workers, command, env, public, server.max_body_bytes)
        url = url_of(server.host, public.getsockname()[1], tls=server.tls.cert is not None)
        admin_url = url_of(admin.host, private.getsockname()[1])

        async def greet_of(peer: Peer) -> None:
            token = {} if admin.token is None else {"authorization": f"Bearer {admin.token}"}
            replicas: list[ReplicaRow] = []
            with contextlib.suppress(httpx.TransportError):  # it may have died already
                answer = await peer.http.get("/dashboard/state.json", headers=token)
                replicas = msgspec.json.decode(answer.content, type=DashboardState).replicas
            _greet(url, admin_url, sorted(set().union(*(row.models or () for row in replicas))))

        asgi = uvicorn.Config(crew.admin, lifespan="off", log_config=None, access_log=False)
        return anyio.run(crew.run, greet_of, asgi, private)


def _of_fleet(config: Config) -> dict[str, str]:
    """An embedded fleet as variables: the other processes have not started it and read no file that names it."""
    gpu = config.telemetry.gpu.sources
    return {
        "GATEWAY_REPLICAS": msgspec.json.encode(config.replicas).decode(),
        "GATEWAY_TELEMETRY__GPU__SOURCES": msgspec.json.encode(gpu).decode(),
    }


def with_fleet(config: Config, fleet: EmbeddedFleet) -> Config:
    """The config with these replicas in place of its own, and with their GPUs."""
    replace = msgspec.structs.replace
    entries = tuple(
        ReplicaConfig(url=url, name=f"emulated-{i}", gpus=(f"{HOSTNAME}:{i}",)) for i, url in enumerate(fleet.urls)
    )
    gpu = replace(config.telemetry.gpu, sources=(GpuSource(dcgm=fleet.gpu_url, host=HOSTNAME),))
    return replace(config, replicas=entries, telemetry=replace(config.telemetry, gpu=gpu))


def serve(gateway: Gateway, beside: Callable[[Gateway], Coroutine[Any, Any, None]]) -> int:
    """Run the gateway, and `beside` with it as soon as it serves. The exit code of the command."""

    async def main() -> int:
        async with anyio.create_task_group() as group:
            await group.start(gateway.run)
            group.start_soon(beside, gateway)
            await gateway.stopped.wait()
            group.cancel_scope.cancel()
        return 130 if gateway.interrupted else 0

    return anyio.run(main, backend_options={"use_uvloop": _has_uvloop()})


async def greet(gateway: Gateway) -> None:
    """Tell where the API and the dashboard are, and a line that can be pasted."""
    with anyio.move_on_after(FIRST_ANSWER_S):
        while all(view.state is not ReplicaState.READY for view in gateway.board.current.replicas):
            await anyio.sleep(0.02)
    models = sorted(set().union(*(view.models or () for view in gateway.board.current.replicas)))
    _greet(gateway.url, gateway.admin_url, models)


def _greet(url: str, admin_url: str, models: Sequence[str]) -> None:
    body = {"model": models[0] if models else "MODEL", "stream": True}
    body["messages"] = [{"role": "user", "content": "Hello!"}]
    print(
        f"API        {url}/v1\n"
        f"dashboard  {admin_url}/dashboard\n"
        f"try        curl -N {url}/v1/chat/completions -H 'content-type: application/json'"
        f" -d '{msgspec.json.encode(body).decode()}'",
        file=sys.stderr,
        flush=True,
    )


def _port(text: str) -> int:
    """argparse's type of a port; its errors begin with the option's name."""
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 (any free one) to 65535, got {text!r}")
    return port


def _with_address(config: Config, host: str | None, port: int | None) -> Config:
    server = config.server
    server = msgspec.structs.replace(
        server, host=server.host if host is None else host, port=server.port if port is None else port
    )
    return msgspec.structs.replace(config, server=server)


def _has_uvloop() -> bool:
    """uvloop where the platform has it, plain asyncio elsewhere."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True
