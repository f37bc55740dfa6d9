"""`gateway serve`: the gateway, in front of the configured replicas or of an embedded emulated fleet."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import msgspec

from gateway.app import Gateway
from gateway.cli.embedded import EmbeddedFleet, embedded_fleet
from gateway.cli.loading import add_config_option, load_or_report
from gateway.config import Config, Discovery, ReplicaConfig, load
from gateway.config.keys import GpuSource
from gateway.core.types import ReplicaState
from gateway.emulator.dcgm import HOSTNAME
from gateway.observability.logs import configure
from gateway.reload.reloader import Origin

EMBEDDED_REPLICAS = 4
FIRST_ANSWER_S = 5.0
"""How long the greeting waits for a replica's first answer, to name a model that works."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("serve", help="serve the OpenAI-compatible API", description=__doc__)
    add_config_option(parser)
    parser.add_argument("--host", help="address of the API, over the config's server.host")
    parser.add_argument("--port", type=_port, help="port of the API, over the config's server.port")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM (0) or Ctrl-C (130). 2: the config is wrong, or a port is taken."""
    config = load_or_report(args.config)
    if config is None:
        return 2
    config = _with_address(config, args.host, args.port)
    configure(config.logging.format, config.logging.level)
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
            gateway = Gateway(config, origin=Origin(partial(_load_again, args, fleet), args.config))
        except OSError as error:
            print(error.strerror or error, file=sys.stderr)
            return 2
        return serve(gateway, greet)


def _load_again(args: argparse.Namespace, fleet: EmbeddedFleet | None) -> Config:
    """The config as it is now, for a reload. Raises `ConfigErrors`."""
    config = _with_address(load(args.config, os.environ), args.host, args.port)
    return with_fleet(config, fleet) if fleet is not None and _is_empty(config) else config


def _is_empty(config: Config) -> bool:
    """Whether the config names no replica, and nothing that finds any."""
    return not config.replicas and config.discovery == Discovery()


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
    body = {"model": models[0] if models else "MODEL", "stream": True}
    body["messages"] = [{"role": "user", "content": "Hello!"}]
    print(
        f"API        {gateway.url}/v1\n"
        f"dashboard  {gateway.admin_url}/dashboard\n"
        f"try        curl -N {gateway.url}/v1/chat/completions -H 'content-type: application/json'"
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
