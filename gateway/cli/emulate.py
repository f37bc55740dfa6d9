"""`gateway emulate`: emulated vLLM replicas to try the gateway against, without a GPU."""

import argparse
import asyncio
import os
import signal
import sys
from dataclasses import replace

from gateway.emulator.engine import EngineParams
from gateway.emulator.fleet import Fleet

_PARENT_CHECK_S = 0.25


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("emulate", help="run emulated vLLM replicas", description=__doc__)
    parser.add_argument("--replicas", type=int, default=2, metavar="N", help="how many (default 2)")
    parser.add_argument("--port", type=int, default=8101, metavar="P", help="first port; 0: free ports (default 8101)")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default 127.0.0.1)")
    parser.add_argument(
        "--control-port", type=int, metavar="P", help="port for faults of the whole fleet; 0: a free one"
    )
    parser.add_argument(
        "--gpu-port", type=int, metavar="G", help="port of a dcgm-exporter for its GPUs; 0: a free one (default none)"
    )
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="run time X times as fast (default 1)")
    parser.add_argument("--models", default="emulated", metavar="A,B", help="served model names (default emulated)")
    parser.add_argument("--adapters", default="", metavar="A,B", help="LoRA adapters of the first model (default none)")
    parser.add_argument("--api-key", metavar="KEY", help="required as a bearer token on /v1/*")
    parser.add_argument("--engine", default="8b-h100", metavar="NAME", help="how fast the GPU is (default 8b-h100)")
    parser.add_argument("--kv-tokens", type=int, metavar="T", help="size of its KV cache (default: the engine's)")
    parser.add_argument("--policy", choices=("fcfs", "priority"), default="fcfs", help="vLLM's --scheduling-policy")
    parser.add_argument("--max-model-len", type=int, default=32768, metavar="T", help="longest context (default 32768)")
    parser.add_argument(
        "--exit-with-parent",
        nargs="?",
        type=int,
        const=os.getppid(),
        metavar="PID",
        help="end when the parent process has ended; with its PID, also if that was before this one could look",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM (0), SIGINT (130) or the parent's end (0). 2: an argument or port that cannot be used."""
    try:
        fleet = _fleet(args)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(fleet, args.exit_with_parent))


def _fleet(args: argparse.Namespace) -> Fleet:
    """ValueError says which argument cannot be used."""
    if args.replicas < 1 or args.speed <= 0:
        raise ValueError("--replicas must be at least 1, --speed above 0")
    params = EngineParams.named(args.engine)
    if args.kv_tokens is not None:
        params = replace(params, kv_tokens=args.kv_tokens)
    return Fleet(
        args.replicas,
        host=args.host,
        port=args.port,
        control_port=args.control_port,
        gpu_port=args.gpu_port,
        speed=args.speed,
        models=tuple(args.models.split(",")),
        adapters=tuple(filter(None, args.adapters.split(","))),
        api_key=args.api_key,
        params=params,
        policy=args.policy,
        max_model_len=args.max_model_len,
    )


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


async def _serve(fleet: Fleet, parent: int | None) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    def check_parent() -> None:
        # An orphan is given to another parent; asking is enough on every system, and needs no open pipe.
        if os.getppid() != parent:
            end(0)
        loop.call_later(_PARENT_CHECK_S, check_parent)

    loop.add_signal_handler(signal.SIGTERM, end, 0)
    loop.add_signal_handler(signal.SIGINT, end, 130)
    if parent is not None:
        check_parent()
    try:
        await fleet.start()
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    for url in fleet.urls:
        print(url)
    if fleet.control_url is not None:
        print(f"control {fleet.control_url}")
    if fleet.gpu_url is not None:
        print(f"gpus {fleet.gpu_url}")
    print("ready", flush=True)
    code = await ended
    await fleet.stop()
    return code
