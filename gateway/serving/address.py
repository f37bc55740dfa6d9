"""Where a replica listens, what every request to it carries, and its idle connections."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.core.types import Replica

if TYPE_CHECKING:
    from gateway.serving.upstream import UpstreamConnection


class Address:
    """`lines`: header lines that are the replica's own, its host and its key if it has one."""

    __slots__ = ("free", "host", "lines", "port", "secure")

    def __init__(self, replica: Replica) -> None:
        parts = urlsplit(replica.url)
        key = f"authorization: Bearer {replica.api_key}\r\n" if replica.api_key else ""
        self.lines = f"host: {parts.netloc}\r\n{key}".encode()
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.secure = parts.scheme == "https"
        self.free: list[UpstreamConnection] = []
