"""Takes the config anew: on SIGHUP, and when its file has changed. A bad one is refused whole, the old one stays."""

import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from gateway.api.reloads import ReloadRow
from gateway.clock import Clock
from gateway.config import Config, ConfigErrors, merged
from gateway.discovery.file import stamp

log = logging.getLogger("gateway.config")

LOOK_S = 1.0
"""How often the file is looked at. What is seen twice alike is taken: who writes in pieces is done within that time."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the config comes from. `load` raises `ConfigErrors`. `path`: what is watched, if there is a file."""

    load: Callable[[], Config]
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last reload went, at wall second `at`. `errors`: why it was refused; none if it was not.

    `needs_restart`: keys that differ from the running ones and are not reloaded.
    """

    at: float
    errors: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


class Reloader:
    """`take` is told of each new config, with the live keys changed only. `last`: `None` before the first reload."""

    def __init__(
        self, origin: Origin, clock: Clock, running: Callable[[], Config], take: Callable[[Config], None]
    ) -> None:
        self._origin = origin
        self._clock = clock
        self._running = running
        self._take = take
        self._taken = stamp(origin.path) if origin.path else None
        self._seen = self._taken
        self._lock = anyio.Lock()
        self.last: Outcome | None = None
        self.refused: Outcome | None = None

    def __repr__(self) -> str:
        return f"<Reloader of {self._origin.path or 'the environment'}>"

    async def heed_signals(self) -> None:
        """Reload at each SIGHUP, which would end the process otherwise."""
        if sys.platform == "win32":
            return
        with anyio.open_signal_receiver(signal.SIGHUP) as hangups:
            async for _ in hangups:
                await self.reload("SIGHUP")

    async def watch(self) -> None:
        """Reload when the file has changed, until cancelled."""
        while self._origin.path is not None:
            await anyio.sleep(LOOK_S)
            now = stamp(self._origin.path)
            if now != self._taken and now == self._seen:
                await self.reload("its file has changed")
            self._seen = now

    async def reload(self, why: str) -> Outcome:
        """Load, and take what can be taken. The file is read in a thread: a large one takes a while."""
        async with self._lock:
            path = self._origin.path
            self._taken = stamp(path) if path else None
            try:
                changed = await anyio.to_thread.run_sync(self._origin.load)
            except ConfigErrors as errors:
                return self._refuse(why, errors)
            return self._accept(why, changed)

    def _refuse(self, why: str, errors: ConfigErrors) -> Outcome:
        self.last = self.refused = Outcome(self._clock.wall(), errors=tuple(errors.errors))
        log.error("the config is not reloaded (%s), the running one stays: %d errors", why, len(errors.errors))
        for error in errors.errors:
            log.error("%s", error)
        return self.last

    def _accept(self, why: str, changed: Config) -> Outcome:
        running = self._running()
        new, left = merged(running, changed)
        self._take(new)
        self.last = Outcome(self._clock.wall(), needs_restart=tuple(left))
        log.info("the config is reloaded (%s)%s", why, "" if new != running else "; nothing that is reloaded differs")
        if left:
            log.warning("changed, but only a restart would make it so: %s", ", ".join(left))
        return self.last


def reload_row(reloader: Reloader) -> ReloadRow | None:
    """What the dashboard's figures tell of it; `None` before the first reload."""
    last, refused = reloader.last, reloader.refused
    if last is None:
        return None
    return ReloadRow(
        at=last.at,
        ok=not last.errors,
        refused_at=refused.at if refused else None,
        errors=list(refused.errors) if refused else [],
        needs_restart=list(last.needs_restart),
    )
