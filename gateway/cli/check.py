"""`gateway check`: is the config right, and does each replica answer as it should?"""

import argparse
import ssl
from collections.abc import Sequence
from time import perf_counter

import anyio
import httpx
import msgspec

from gateway.cli.check_gpus import GpuReport, gpu_text, look_at_gpus
from gateway.cli.loading import add_config_option, load_or_report
from gateway.cli.table import table
from gateway.config import Config, ineffective
from gateway.core.types import Replica
from gateway.discovery.base import NothingFound
from gateway.reload.discoverer import source_of
from gateway.telemetry.models import parse_models

TIMEOUT_S = 5.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica answered. `state` is `ok` or `wrong`, with the `problem`; `None`: not known."""

    name: str
    url: str
    state: str
    models: list[str] | None = None
    latency_ms: float | None = None
    version: str | None = None
    problem: str | None = None


class Wrong(Exception):
    """The replica does not answer as it should; the text says how, and what to look at."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("check", help="validate a config and ask its replicas", description=__doc__)
    add_config_option(parser)
    parser.add_argument("--offline", action="store_true", help="only validate; ask no replica")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="what to print (default table)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0: all is right. 1: a replica, alias or GPU source is not. 2: the config is not; all errors are on stderr."""
    config = load_or_report(args.config)
    if config is None:
        return 2
    findings, gpus = ([], GpuReport()) if args.offline else anyio.run(look_at_all, config)
    as_json = args.format == "json"
    print(
        _json(config, findings, gpus)
        if as_json
        else "\n".join([_text(config, findings, args.offline), *gpu_text(gpus)])
    )
    return int(not (_fine(config, findings) and gpus.fine))


def _fine(config: Config, findings: Sequence[Finding]) -> bool:
    return all(finding.state == "ok" for finding in findings) and not unserved(config, findings)


def unserved(config: Config, findings: Sequence[Finding]) -> dict[str, str]:
    """The aliases of models that no replica has told it serves; none when nobody was asked."""
    served = set().union(*(finding.models or () for finding in findings))
    return {name: model for name, model in config.models.aliases.items() if findings and model not in served}


async def look_at_all(config: Config, timeout_s: float = TIMEOUT_S) -> tuple[list[Finding], GpuReport]:
    """The replicas, and the GPU sources."""
    findings = await look(config, timeout_s)
    async with httpx.AsyncClient(timeout=timeout_s, trust_env=False, verify=ssl.create_default_context()) as http:
        return findings, await look_at_gpus(config, http, timeout_s)


async def look(config: Config, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Ask all replicas at once; one finding each, in the config's order, then those that discovery finds."""
    replicas = [entry.replica() for entry in config.replicas]
    discovered, problems = await _discovered(config)
    urls = {replica.url for replica in replicas}
    replicas += [replica for replica in discovered if replica.url not in urls]
    found: dict[str, Finding] = {}

    async def ask(http: httpx.AsyncClient, replica: Replica) -> None:
        found[replica.id] = await _ask(http, replica, config.resilience.probe.path)

    # As the gateway itself does, ask directly and not by way of a proxy that the environment names.
    tls = ssl.create_default_context()  # as the gateway trusts
    async with (
        httpx.AsyncClient(timeout=timeout_s, trust_env=False, verify=tls) as http,
        anyio.create_task_group() as group,
    ):
        for replica in replicas:
            group.start_soon(ask, http, replica)
    return [*problems, *[found[replica.id] for replica in replicas]]


async def _discovered(config: Config) -> tuple[Sequence[Replica], list[Finding]]:
    """What discovery finds now; if it finds nothing, that is a finding."""
    source = source_of(config.discovery)
    try:
        return ([] if source is None else await source.find()), []
    except NothingFound as error:
        return [], [Finding(name="discovery", url="-", state="wrong", problem=str(error))]


async def _ask(http: httpx.AsyncClient, replica: Replica, health: str) -> Finding:
    try:
        if replica.engine != "openai":
            await _get(http, replica, health)
        start = perf_counter()
        models = parse_models((await _get(http, replica, "/v1/models")).content)
        latency_ms = round((perf_counter() - start) * 1000, 1)
        if not models:
            raise Wrong("/v1/models names no model: is this an OpenAI-compatible server?")
        version = await _version(http, replica)
    except Wrong as wrong:
        return Finding(name=replica.id, url=replica.url, state="wrong", problem=str(wrong))
    return Finding(
        name=replica.id, url=replica.url, state="ok", models=sorted(models), latency_ms=latency_ms, version=version
    )


async def _get(http: httpx.AsyncClient, replica: Replica, path: str) -> httpx.Response:
    """The answer, whose status is 200. Raises `Wrong`."""
    headers = {"authorization": f"Bearer {replica.api_key}"} if replica.api_key else {}
    try:
        response = await http.get(f"{replica.url}{path}", headers=headers)
    except httpx.TimeoutException:
        raise Wrong(f"{path}: no answer in time") from None
    except httpx.HTTPError as error:
        raise Wrong(f"{path}: {error or type(error).__name__}") from None
    if response.status_code in (401, 403):
        raise Wrong(f"{path}: {response.status_code}, the replica wants another api_key")
    if response.status_code != 200:
        raise Wrong(f"{path}: {response.status_code} instead of 200")
    return response


async def _version(http: httpx.AsyncClient, replica: Replica) -> str | None:
    """The engine's version; `None` when it does not tell, which not every engine does. Source: vLLM, `GET /version`."""
    try:
        answer = msgspec.json.decode((await _get(http, replica, "/version")).content, type=dict[str, object])
    except (Wrong, msgspec.DecodeError):
        return None
    version = answer.get("version")
    return version if isinstance(version, str) else None


def _json(config: Config, findings: Sequence[Finding], gpus: GpuReport) -> str:
    answer = {
        "ok": _fine(config, findings) and gpus.fine,
        "replicas": findings,
        "unserved_aliases": unserved(config, findings),
        "gpu_sources": gpus.sources,
        "gpus": gpus.gpus,
        "not_effective": ineffective(config),
    }
    return msgspec.json.encode(answer).decode()


def _text(config: Config, findings: Sequence[Finding], offline: bool) -> str:
    lines = [f"note: {key} has no effect in this version" for key in ineffective(config)]
    if not findings:
        empty = not config.replicas and source_of(config.discovery) is None
        asked = "gateway serve starts an emulated fleet" if empty else "none was asked"
        return "\n".join([*lines, f"The config is right. Replicas: {len(config.replicas) or 'none'}; {asked}."])
    rows = [
        (
            finding.name,
            finding.url,
            finding.state,
            ",".join(finding.models or ()) or "-",
            "-" if finding.latency_ms is None else f"{finding.latency_ms} ms",
            finding.version or "-",
            finding.problem or "",
        )
        for finding in findings
    ]
    heads = ("NAME", "URL", "STATE", "MODELS", "LATENCY", "VERSION", "PROBLEM")
    dead = unserved(config, findings).items()
    aliases = [f"models.aliases.{name}: no replica that answers serves {model}" for name, model in dead]
    return "\n".join([*lines, table(heads, rows), *aliases])
