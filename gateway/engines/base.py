"""What an engine's dialect is: where its metrics are, and how to read them."""

from typing import Protocol

from gateway.core.vitals import EngineFigures


class Dialect(Protocol):
    """Pure; one for each word of `replicas[].engine`."""

    @property
    def metrics_path(self) -> str | None:
        """Where the engine shows its metrics; `None`: it has none that are known."""

    def read(self, page: bytes, wall: float) -> EngineFigures | None:
        """The figures on a page of metrics; `None` when it holds none of this engine. `wall`: seconds of the epoch."""
