"""A name in DNS: its addresses (A, AAAA) with one port for all, or its services (SRV), which tell their own ports."""

import importlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio

from gateway.core.types import Replica
from gateway.discovery.base import NothingFound, Template

Resolve = Callable[..., Awaitable[Sequence[tuple[Any, ...]]]]

T = TypeVar("T")

TIMEOUT_S = 5.0


class Addresses:
    """The system's own resolver, with its search list and its hosts file; it does not tell how long an answer holds."""

    def __init__(self, name: str, port: int, template: Template, resolve: Resolve = anyio.getaddrinfo) -> None:
        self._name = name
        self._port = port
        self._template = template
        self._resolve = resolve

    async def find(self) -> list[Replica]:
        """One for each IPv4 address. IPv6 addresses count where there are no others: with both, a replica has one of
        each, and would be two."""
        try:
            with anyio.fail_after(TIMEOUT_S):
                answers = await self._resolve(self._name, self._port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise NothingFound(f"{self._name}: no answer in {TIMEOUT_S:g} s") from None
        except (OSError, UnicodeError) as error:
            raise NothingFound(f"{self._name}: {getattr(error, 'strerror', None) or error}") from None
        by_family: dict[int, set[str]] = {}
        for family, *_, address in answers:
            by_family.setdefault(family, set()).add(address[0])
        hosts = by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6) or set()
        return [self._template.replica(host, self._port) for host in _some(self._name, sorted(hosts))]


def load_dnspython() -> Any:
    """Its asynchronous resolver. Raises `ImportError` without the extra `dns`."""
    return importlib.import_module("dns.asyncresolver")


class Services:
    """SRV records, by dnspython: the system's resolver knows none. `servers`: asked instead of resolv.conf's."""

    def __init__(self, name: str, template: Template, servers: Sequence[tuple[str, int]] = ()) -> None:
        self._name = name
        self._template = template
        self._servers = servers

    async def find(self) -> list[Replica]:
        """One for each target, by its name, whatever its priority and weight: routing knows better. Source: RFC 2782"""
        try:
            library = load_dnspython()
        except ImportError:
            raise NothingFound("SRV records need the extra dns: pip install 'vllm-gateway[dns]'") from None
        failures = importlib.import_module("dns.exception").DNSException
        try:
            answers = await self._resolver(library).resolve(self._name, "SRV", lifetime=TIMEOUT_S, search=True)
        except (failures, OSError) as error:
            raise NothingFound(f"{self._name}: {error}") from None
        targets = sorted({(str(record.target).rstrip("."), int(record.port)) for record in answers})
        # A target of "." says that the service is decidedly not available.
        return [self._template.replica(host, port) for host, port in _some(self._name, [t for t in targets if t[0]])]

    def _resolver(self, library: Any) -> Any:
        if not self._servers:
            return library.Resolver()  # reads resolv.conf anew
        resolver = library.Resolver(configure=False)
        resolver.nameservers = [host for host, _ in self._servers]
        resolver.nameserver_ports = dict(self._servers)
        return resolver


def _some(name: str, found: list[T]) -> list[T]:
    if not found:
        raise NothingFound(f"{name}: the answer names nobody")
    return found
