"""Asks the source of replicas that the config names, over and over, and tells the roster what it found."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from gateway.clock import Clock
from gateway.config import ConfigErrors, Discovery, replica_list
from gateway.core.types import Replica
from gateway.discovery.base import NothingFound, Source, Template
from gateway.discovery.dns import Addresses, Services
from gateway.discovery.file import ListFile
from gateway.discovery.kubernetes import EndpointSlices, in_cluster
from gateway.telemetry.loop import Loop
from gateway.telemetry.poller import NoAnswer

FILE_INTERVAL_S = 1.0
"""A look at a file costs nothing."""


def source_of(discovery: Discovery) -> Source | None:
    """The source that the section names; `None` if it names none."""
    template = Template(discovery.engine, discovery.api_key)
    if discovery.file is not None:
        return ListFile(Path(discovery.file), lambda text: _replicas(text, str(discovery.file)))
    if discovery.dns is not None:
        if discovery.port is None:
            return Services(discovery.dns, template)
        return Addresses(discovery.dns, discovery.port, template)
    pods = discovery.kubernetes
    if pods.selector is not None:
        api = in_cluster(os.environ) or "https://kubernetes.default.svc"
        return EndpointSlices(api, template, selector=pods.selector, namespace=pods.namespace, port=pods.port)
    return None


def _replicas(text: str, file: str) -> Sequence[Replica]:
    try:
        return [entry.replica() for entry in replica_list(text, file, os.environ)]
    except ConfigErrors as errors:
        raise NothingFound("; ".join(errors.errors)) from None


class Discoverer:
    """`found` is told of each good answer; what a source does not tell stays as it was. `count`: failed looks."""

    def __init__(
        self,
        discovery: Discovery,
        clock: Clock,
        found: Callable[[Sequence[Replica]], None],
        count: Callable[[], object],
    ) -> None:
        self._discovery = discovery
        self._clock = clock
        self._found = found
        self._count = count
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"<Discoverer by {self._discovery}>"

    def configure(self, discovery: Discovery) -> None:
        """Another source, or none any more: then what it found leaves. Until another has told, nothing changes."""
        if discovery == self._discovery:
            return
        self._discovery = discovery
        self._changed.set()
        if source_of(discovery) is None:
            self._found(())

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            self._changed = anyio.Event()
            async with anyio.create_task_group() as group:
                source = source_of(self._discovery)
                if source is not None:
                    group.start_soon(self._loop(source).run)
                await self._changed.wait()
                group.cancel_scope.cancel()

    def _loop(self, source: Source) -> Loop:
        told: Sequence[Replica] | None = None

        async def ask() -> str | None:
            nonlocal told
            try:
                replicas = await source.find()
            except NothingFound as error:
                raise NoAnswer(str(error)) from None
            if replicas != told:  # to go through a fleet of a thousand takes milliseconds
                self._found(replicas)
                told = replicas
            return None

        seconds = FILE_INTERVAL_S if self._discovery.file is not None else self._discovery.interval_s
        stands = "the replicas that it found last stay"
        return Loop("discovery", ask, self._clock, interval_s=seconds, count=self._count, stands=stands)
