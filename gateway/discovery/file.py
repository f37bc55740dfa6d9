"""A file that holds a list of replicas, in YAML or JSON, and is watched."""

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio.to_thread

from gateway.core.types import Replica
from gateway.discovery.base import NothingFound

Stamp = tuple[int, int, int]
"""mtime in ns, inode, size: one of them changes with every write, also of editors that put another file in its place,
and of Kubernetes, which turns a link."""


def stamp(path: Path) -> Stamp | None:
    """`None` while there is no file: an editor may be about to put it there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


class ListFile:
    """`parse` makes replicas of the text; it raises `NothingFound`, which tells all that is wrong.

    An empty list is meant, and empties the fleet; an empty file is not, as it may be half written.
    """

    def __init__(self, path: Path, parse: Callable[[str], Sequence[Replica]]) -> None:
        self._path = path
        self._parse = parse
        self._read: Stamp | None = None
        self._last: Sequence[Replica] = ()

    async def find(self) -> Sequence[Replica]:
        """Reads the file only when it is another one than at the last good look."""
        now = stamp(self._path)
        if now is None:
            raise NothingFound(f"{self._path}: there is no such file")
        if now != self._read:
            self._last = await anyio.to_thread.run_sync(self._load)
            self._read = now
        return self._last

    def _load(self) -> Sequence[Replica]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError as error:
            raise NothingFound(f"{self._path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise NothingFound(f"{self._path}: not UTF-8 at byte {error.start}") from None
        return self._parse(text)
