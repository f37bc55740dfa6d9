"""Runs the engine model in real time: a timer to the end of the step now running, and news to whoever submitted."""

import asyncio
from collections.abc import Callable

from gateway.emulator.engine import EngineModel, EngineRequest

Listener = Callable[[int, int, bool], None]
"""(tokens, cached_tokens, finished): tokens since the last call, more than one when the loop was late."""


class Driver:
    """One replica's engine. `speed` 10: its time runs ten times as fast as the loop's."""

    def __init__(self, engine: EngineModel, *, speed: float) -> None:
        self.engine = engine
        self._frozen_at: float | None = None
        self._speed = speed
        self._loop = asyncio.get_running_loop()
        self._origin = self._loop.time()
        self._listeners: dict[str, Listener] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        """Whether the engine may hold news already: of a step that had ended before something else was asked of it."""

    def now(self) -> float:
        """Seconds of the engine's time; it stands still while frozen."""
        if self._frozen_at is not None:
            return self._frozen_at
        return (self._loop.time() - self._origin) * self._speed

    def submit(self, request: EngineRequest, listener: Listener) -> None:
        now = self._look()
        self._listeners[request.id] = listener
        self.engine.submit(request, now)
        self._arm()

    def abort(self, request_id: str) -> None:
        """Forget the request at once; nothing happens if it has ended."""
        if self._listeners.pop(request_id, None) is not None:
            now = self._look()
            self.engine.abort(request_id, now)
            self._arm()

    def freeze(self) -> None:
        """From now on it takes requests and answers none, like a stopped process."""
        if self._frozen_at is None:
            self._frozen_at = self.now()
        self._arm()

    def thaw(self) -> None:
        """Go on where it stood."""
        if self._frozen_at is not None:
            self._origin = self._loop.time() - self._frozen_at / self._speed
            self._frozen_at = None
        self._arm()

    def _look(self) -> float:
        """The time; notes whether a step has ended by it that nobody was told of, since the engine may run past it."""
        now, at = self.now(), self.engine.next_at()
        self._late = self._late or (at is not None and at <= now)
        return now

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.now() if self._late else self.engine.next_at()
        if at is not None and self._frozen_at is None:
            self._timer = self._loop.call_at(self._origin + at / self._speed, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._late = False
        news: dict[str, tuple[int, int, bool]] = {}
        for progress in self.engine.advance(self.now()):
            tokens, cached, _ = news.get(progress.request_id, (0, progress.cached_tokens, False))
            news[progress.request_id] = (tokens + progress.tokens, cached, progress.finished)
        for request_id, (tokens, cached, finished) in news.items():
            # An earlier listener of this round may have aborted this one.
            listener = self._listeners.pop(request_id, None) if finished else self._listeners.get(request_id)
            if listener is not None:
                listener(tokens, cached, finished)
        self._arm()
