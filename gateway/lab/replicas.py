"""A replica in the lab: an engine model that can be slowed, die and come back."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.emulator.engine import EngineModel, EngineParams, EngineRequest, ItlSummary, Progress
from gateway.lab.peers import Scraped
from gateway.lab.setup import Throttle


class LabReplica:
    """One engine after the other: each death ends one. `speed`: share of nominal, of clock and memory both."""

    def __init__(self, params: EngineParams, kv_tokens: int, speed: float) -> None:
        self._params = replace(params, kv_tokens=kv_tokens)
        self._speed = speed
        self._throttles: list[Throttle] = []
        self._engine: EngineModel | None = None
        self._busy_since: float | None = None
        self._gaps: list[tuple[float, int]] = []
        self._preemptions = 0
        self.busy_s = 0.0
        """Seconds in which it had something to do."""
        self.start()

    def takes(self, request: EngineRequest) -> bool:
        """Whether it lives, and its KV cache can hold this request at all; vLLM answers 400 if not."""
        if self._engine is None:
            return False
        size = self._params.block_tokens
        return request.prompt_tokens + request.max_tokens <= self._params.kv_tokens // size * size

    def submit(self, request: EngineRequest, now: float) -> None:
        assert self._engine is not None
        if self._busy_since is None:
            self._busy_since = now
        self._engine.submit(request, now)

    def next_at(self) -> float | None:
        """When it will have news; `None`: it is idle, or dead."""
        return None if self._engine is None else self._engine.next_at()

    def advance(self, now: float) -> Sequence[Progress]:
        """First tokens and ends up to now."""
        if self._engine is None:
            return ()
        reports = self._engine.advance(now)
        if self._busy_since is not None and self._engine.next_at() is None:
            self._rest(reports[-1].at)
        return reports

    def gap_s(self) -> float | None:
        """The gap between its newest tokens; `None`: it has none to tell."""
        return None if self._engine is None else self._engine.newest_gap_s

    def scrape(self) -> Scraped | None:
        """Its metrics as of the last `advance`; `None`: it does not answer."""
        return None if self._engine is None else Scraped(self._engine.waiting, self._engine.kv_usage)

    def throttle(self, throttle: Throttle) -> None:
        """From the next step on. Several at once multiply."""
        self._throttles.append(throttle)
        self._set_speed()

    def relieve(self, throttle: Throttle) -> None:
        """This throttle is over."""
        self._throttles.remove(throttle)
        self._set_speed()

    def clock(self) -> float:
        """Share of its own full clock that the throttles leave it, as GPU telemetry would tell."""
        share = 1.0
        for throttle in self._throttles:
            share *= throttle.clock
        return share

    def stop(self, now: float) -> None:
        """It dies with all it has."""
        if self._engine is None:
            return
        self._gaps += self._engine.itl().gaps
        self._preemptions += self._engine.preemptions
        self._engine = None
        if self._busy_since is not None:
            self._rest(now)

    def start(self) -> None:
        """A new engine with an empty cache."""
        self._engine = EngineModel(self._params, milestones_only=True)
        self._set_speed()

    def itl(self) -> ItlSummary:
        """The gaps between tokens of all its lives, or since `forget_gaps`."""
        return ItlSummary((*self._gaps, *(self._engine.itl().gaps if self._engine is not None else ())))

    def forget_gaps(self) -> None:
        """`itl` begins anew."""
        self._gaps.clear()
        if self._engine is not None:
            self._engine.forget_gaps()

    @property
    def preemptions(self) -> int:
        """Of all its lives."""
        return self._preemptions + (self._engine.preemptions if self._engine is not None else 0)

    def _set_speed(self) -> None:
        if self._engine is None:
            return
        memory = self._speed
        for throttle in self._throttles:
            memory *= throttle.memory
        self._engine.throttle(clock=self._speed * self.clock(), memory=memory)

    def _rest(self, now: float) -> None:
        assert self._busy_since is not None
        self.busy_s += now - self._busy_since
        self._busy_since = None
