"""What a source is, and what an address that it finds becomes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.core.types import Replica, ReplicaId


class NothingFound(Exception):
    """The source failed, or named nobody, which is more likely a fault than meant. The text says how, for the log."""


class Source(Protocol):
    """One place to ask."""

    async def find(self) -> Sequence[Replica]:
        """All replicas that there are now, of different names. Raises `NothingFound`, and nothing else."""


@dataclass(frozen=True, slots=True)
class Template:
    """What found replicas have in common. No repr shows the key."""

    engine: str = "vllm"
    api_key: str | None = field(default=None, repr=False)

    def replica(self, host: str, port: int, *, name: str | None = None, gpus: tuple[str, ...] = ()) -> Replica:
        """The replica at this address; named `host:port` unless it has a name."""
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return Replica(ReplicaId(name or place), f"http://{place}", self.engine, gpus, self.api_key)
