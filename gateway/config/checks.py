"""What one key demands of another, and what no range can say. A check gives (key, problem) for each fault."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config.keys import (
    GPU_SOURCES,
    POLICIES,
    Admin,
    Config,
    Discovery,
    GpuSource,
    Models,
    ReplicaConfig,
    Routing,
    Tls,
)

Problems = Iterator[tuple[str, str]]


def _admin(admin: Admin) -> Problems:
    if admin.token is None and not _is_loopback(admin.host):
        yield "token", f'expected a token, as the host "{admin.host}" can be reached from elsewhere, got null'


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(tls: Tls) -> Problems:
    if (tls.cert is None) != (tls.key is None):
        yield ("key" if tls.cert else "cert"), "expected a file, as cert and key go together, got null"
    if tls.client_ca and not tls.cert:
        yield "cert", "expected a file, as client_ca is set, got null"
    for name in ("cert", "key", "client_ca"):
        file = getattr(tls, name)
        if file and not Path(file).is_file():
            yield name, f'expected a file that exists, got "{file}"'


def _replica(replica: ReplicaConfig) -> Problems:
    problem = _url_problem(replica.url)
    if problem:
        yield "url", f"expected http://HOST:PORT or https://HOST:PORT, got {problem}"


def _url_problem(url: str) -> str:
    """What is wrong with the URL of a replica; it is shown only where it holds no password."""
    if "@" in url:
        return "one with a user name"
    try:
        parts = urlsplit(url)
        if parts.port == 0:
            return f'port 0 in "{url}"'
    except ValueError as error:
        return f'"{url}" ({error})'
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c <= " " for c in url):
        return f'"{url}"'
    if parts.path not in ("", "/") or parts.query or parts.fragment or url.endswith(("?", "#")):
        return f'more than that in "{url}"'
    return ""


def _gpu_source(source: GpuSource) -> Problems:
    kinds = source.kinds
    if len(kinds) != 1:
        yield (
            (list(kinds) or ["dcgm"])[-1],
            f"expected one of {', '.join(GPU_SOURCES)} in each source, got {len(kinds)}",
        )
    for kind, url in kinds.items():
        if kind != "nvml" and (problem := _page_url_problem(url)):
            yield kind, f"expected the http URL of a page, got {problem}"


def _page_url_problem(url: str) -> str:
    """What is wrong with the URL of an exporter; it is shown only where it holds no password."""
    if "@" in url:
        return "one with a user name"
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        return f'"{url}" ({error})'
    return "" if right and not any(c <= " " for c in url) else f'"{url}"'


def _discovery(discovery: Discovery) -> Problems:
    pods = discovery.kubernetes
    sources = {"dns": discovery.dns, "file": discovery.file, "kubernetes": pods.selector}
    given = [name for name, value in sources.items() if value is not None]
    for name in given[1:]:
        yield name, f"expected one source, got {' and '.join(given)}"
    if pods.selector is None and (pods.namespace or pods.port):
        yield "kubernetes.selector", "expected a label selector, as the others are set, got null"
    if discovery.port is not None and discovery.dns is None:
        yield "port", "expected null, as it belongs to dns, which is null"
    if discovery.dns is not None and discovery.port is None and find_spec("dns") is None:
        yield "port", "expected a port, as SRV records need the extra dns (pip install 'vllm-gateway[dns]'), got null"
    if discovery.file is not None and (discovery.api_key or discovery.engine != "vllm"):
        yield "file", "expected engine and api_key in its entries, got them beside it"


def _routing(routing: Routing) -> Problems:
    if routing.policy not in POLICIES:
        yield "policy", f'expected one of {", ".join(sorted(POLICIES))}, got "{routing.policy}"'
        return
    owners: dict[str, list[str]] = {}
    for policy, names in POLICIES.items():
        for name in names:
            owners.setdefault(name, []).append(policy)
    for name, policies in owners.items():
        if routing.policy not in policies and getattr(routing, name) is not None:
            yield name, f"expected null, as it belongs to the policy {' or '.join(policies)}, not {routing.policy}"


def _models(models: Models) -> Problems:
    for name, served in models.aliases.items():
        if not name:
            yield "aliases", 'expected names that are not empty, got ""'
        elif served in models.aliases:
            yield f"aliases.{name}", f'expected a name that replicas serve, got "{served}", which is an alias itself'


def _ports(config: Config) -> Problems:
    here, there = config.server, config.admin
    if here.port and (here.host, here.port) == (there.host, there.port):
        yield "admin.port", f"expected another port than that of server, got {there.port}"


def same_names(replicas: Mapping[str, ReplicaConfig]) -> Problems:
    """Gives the path of each replica whose name an earlier one has."""
    first: dict[str, str] = {}
    for path, replica in replicas.items():
        if not _url_problem(replica.url) and first.setdefault(replica.id, path) != path:
            yield f"{path}.name", f'expected a name of its own, got that of {first[replica.id]}, "{replica.id}"'


CHECKS: dict[type, tuple[frozenset[str], Callable[[Any], Problems]]] = {
    Admin: (frozenset({"host", "token"}), _admin),
    Tls: (frozenset({"cert", "key", "client_ca"}), _tls),
    ReplicaConfig: (frozenset({"url"}), _replica),
    GpuSource: (frozenset(GPU_SOURCES), _gpu_source),
    Discovery: (frozenset({"dns", "file", "kubernetes", "port", "engine", "api_key"}), _discovery),
    Routing: (frozenset({"policy"}), _routing),
    Models: (frozenset({"aliases"}), _models),
    Config: (frozenset({"server", "admin"}), _ports),
}
"""Section -> the keys that its check reads, and the check; it runs when those keys are right."""
