"""A replica that comes back has an empty cache: it is sent the hottest prompts before it takes traffic."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf

import anyio
import httpx

from gateway.clock import Clock
from gateway.core.affinity import PrefixIndex
from gateway.core.fleet import Board
from gateway.core.hot import HotPrompt, HotPrompts
from gateway.core.types import HealthReading, Replica, ReplicaId, ReplicaState, ReplicaView, Sign

log = logging.getLogger("gateway.telemetry")

LOOK_S = 0.1
"""How late the end of an ejection, or of a warming, may be noticed."""

MAX_TOKENS = 65536
"""Prompt tokens of one warm-up: 2 s of an H100's prefill for an 8B model, 15 s for a 70B one on four."""

KV_SHARE = 0.5
"""Of a KV cache whose size is known, no more is filled: what comes first would be the first to be evicted."""

MAX_ANSWER_BYTES = 1024 * 1024

_WORDS = {
    "done": "all of them are in its cache",
    "cut": "the time for it was over",
    "nothing": "there was nothing to send",
    "failed": "it answered none of them",
}


@dataclass(slots=True)
class _Progress:
    """What has come of one warm-up so far."""

    prompts: int
    answered: int = 0
    tokens: int = 0
    failed: bool = False


class Warmer:
    """Watches the board for replicas that warm, and ends each one's warming, within `max_s`, by a sign.

    One prompt at a time, `prompts` at most, one token each, with the replica's own key. `count` is told how a warm-up
    went: `done`, `cut` (time was over), `nothing` (no hot prompt is known, or it took none), `failed`.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        board: Board,
        clock: Clock,
        hot: HotPrompts,
        index: PrefixIndex,
        *,
        prompts: int,
        max_s: float,
        count: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._http = http
        self._board = board
        self._clock = clock
        self._hot = hot
        self._index = index
        self._prompts = prompts
        self._max_s = max_s
        self._count = count
        self._sleep = sleep
        self._scopes: dict[ReplicaId, anyio.CancelScope] = {}

    def __repr__(self) -> str:
        return f"<Warmer of {', '.join(self._scopes) or 'nobody'}>"

    async def run(self) -> None:
        """Warm until cancelled. Replicas do not wait for each other."""
        async with anyio.create_task_group() as group:
            while True:
                warming = {view.id: view for view in self._board.current.replicas if view.state is ReplicaState.WARMING}
                for name, scope in self._scopes.items():
                    if name not in warming:
                        scope.cancel()
                for name in warming.keys() - self._scopes.keys():
                    self._scopes[name] = anyio.CancelScope()
                    group.start_soon(self._warm, warming[name])
                await self._sleep(LOOK_S)

    async def _warm(self, view: ReplicaView) -> None:
        began_at = self._clock.monotonic()
        try:
            # A replica that was put out, or drained, while it warmed is no longer ours.
            with self._scopes[view.id] as scope:
                progress, outcome, sign = await self._attempt(view)
        finally:
            del self._scopes[view.id]
        if scope.cancelled_caught:
            return
        now = self._clock.monotonic()
        self._count(outcome)
        self._board.fold(HealthReading(view.id, sign), now)
        log.log(
            logging.WARNING if outcome == "failed" else logging.INFO,
            "replica %s (%s) was warmed for %.1f s: %d of %d prompts, %d tokens; %s",
            *(view.id, view.replica.url, now - began_at, progress.answered, progress.prompts, progress.tokens),
            _WORDS[outcome],
        )

    async def _attempt(self, view: ReplicaView) -> tuple[_Progress, str, Sign]:
        self._index.forget(view.id)  # what it held is gone
        chosen = self._hot.hottest(
            view.models or (), self._clock.monotonic(), prompts=self._prompts, tokens=_budget_tokens(view)
        )
        progress = _Progress(len(chosen))
        with anyio.move_on_after(self._max_s) as limit:
            await self._send_all(view.replica, chosen, progress)
        if progress.answered:
            return progress, "cut" if limit.cancelled_caught else "done", Sign.WARMED
        # One that was put out for its requests has to answer one; for the others, slowness is no failure.
        if progress.failed or (limit.cancelled_caught and view.condition.trials):
            return progress, "failed", Sign.NOT_WARMED
        return progress, "cut" if limit.cancelled_caught else "nothing", Sign.WARMED

    async def _send_all(self, replica: Replica, chosen: list[HotPrompt], progress: _Progress) -> None:
        priority = replica.engine == "vllm"
        for prompt in chosen:
            status = await self._send(replica, prompt, priority=priority)
            if status == 400 and priority:  # engines without priority scheduling may refuse the field
                priority = False
                status = await self._send(replica, prompt, priority=False)
            if status == 200:
                progress.answered += 1
                progress.tokens += prompt.tokens
                self._index.record(replica.id, prompt.blocks)
            elif status is None:
                progress.failed = True
                return
            elif status >= 500:
                progress.failed = True
                self._hot.forget(prompt)  # should it be at fault, it must not keep every replica out

    async def _send(self, replica: Replica, prompt: HotPrompt, *, priority: bool) -> int | None:
        """The status of its answer, read whole; `None` if there was none."""
        headers = {"content-type": "application/json"}
        if replica.api_key:
            headers["authorization"] = f"Bearer {replica.api_key}"
        url = f"{replica.url}{prompt.endpoint.path}"
        body = prompt.behind_all() if priority else prompt.body
        try:
            async with self._http.stream("POST", url, content=body, headers=headers, timeout=None) as response:
                size = 0
                async for piece in response.aiter_bytes():
                    size += len(piece)
                    if size > MAX_ANSWER_BYTES:
                        return None
                return response.status_code
        except (httpx.HTTPError, httpx.InvalidURL):
            return None


def _budget_tokens(view: ReplicaView) -> int:
    capacity = view.kv.capacity_tokens if view.kv is not None else inf
    return int(min(MAX_TOKENS, KV_SHARE * capacity))
