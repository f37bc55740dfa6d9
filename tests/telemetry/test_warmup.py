"""The warm-up: what a replica is sent, in which order, how it may end, and what comes of it."""

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import anyio.lowlevel
import httpx
import pytest

from gateway.core.affinity import PrefixIndex
from gateway.core.fleet import Board
from gateway.core.hot import HotPrompts
from gateway.core.types import (
    Condition,
    FleetSnapshot,
    HealthReading,
    KvCache,
    ReplicaId,
    ReplicaState,
    ReplicaView,
    Sign,
)
from gateway.telemetry.warmup import MAX_ANSWER_BYTES, Warmer
from tests.core.test_hot import chat
from tests.telemetry.fakes import ManualClock, Naps, replica, run_until, state_of

pytestmark = pytest.mark.anyio

Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]
R0 = ReplicaId("r0")
WARMING, READY, EJECTED = ReplicaState.WARMING, ReplicaState.READY, ReplicaState.EJECTED


async def good(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={})


async def silent(request: httpx.Request) -> httpx.Response:
    await anyio.sleep_forever()
    raise AssertionError


def status(code: int) -> Answer:
    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(code, json={})

    return answer


class Bench:
    """One warming replica, some hot prompts (the hottest first: `p0`, `p1`, …), and what was sent and counted."""

    def __init__(
        self, answer: Answer = good, *, hot: int = 3, prompts: int = 16, max_s: float = 1e6, **view: object
    ) -> None:
        shown = ReplicaView(replica("r0", api_key="own", engine=view.pop("engine", "vllm")), WARMING, frozenset({"m"}))
        self.board = Board(FleetSnapshot((replace(shown, **view),)))  # type: ignore[arg-type]
        self.hot, self.index = HotPrompts(), PrefixIndex()
        for number in range(hot):
            for _ in range(hot - number + 1):
                self.hot.note(chat(f"p{number}  "), 100.0)
        self.sent: list[httpx.Request] = []
        self.outcomes: list[str] = []
        self._answer = answer
        self._prompts, self._max_s = prompts, max_s
        self.naps = Naps(limit=10**9)

    async def run(self, condition: Callable[[], bool] | None = None) -> None:
        async def answer(request: httpx.Request) -> httpx.Response:
            self.sent.append(request)
            return await self._answer(request)

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            warmer = Warmer(
                http, self.board, ManualClock(), self.hot, self.index,
                prompts=self._prompts, max_s=self._max_s, count=self.outcomes.append, sleep=self.naps,
            )  # fmt: skip
            await run_until(warmer.run, condition or (lambda: bool(self.outcomes)))
            assert repr(warmer) == "<Warmer of nobody>"

    @property
    def names(self) -> list[str]:
        return [json.loads(request.content)["messages"][0]["content"][:2] for request in self.sent]

    @property
    def state(self) -> ReplicaState:
        return state_of(self.board, "r0")


async def test_the_hottest_prompts_are_sent_and_the_replica_is_ready() -> None:
    """Hottest first, one token, not streamed, behind all other work, and with the replica's own key."""
    bench = Bench()
    await bench.run()
    assert (bench.names, bench.outcomes, bench.state) == (["p0", "p1", "p2"], ["done"], READY)
    request = bench.sent[0]
    assert (request.method, str(request.url)) == ("POST", "http://r0:8000/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer own"
    body = json.loads(request.content)
    assert (body["max_tokens"], body["stream"], body["priority"] > 0) == (1, False, True)


async def test_the_index_is_dropped_and_learns_what_was_sent() -> None:
    """What the replica held before is gone; what it was sent, it holds."""
    bench = Bench()
    old, new = chat("old "), chat("p0  ")
    bench.index.record(R0, old.blocks)
    await bench.run()
    assert bench.index.match(old.blocks).depth(R0) == 0
    assert bench.index.match(new.blocks).depth(R0) == len(new.blocks)


async def test_one_at_a_time() -> None:
    """The next prompt waits for the answer to the one before it."""
    under_way, most = 0, 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await anyio.lowlevel.checkpoint()
        under_way -= 1
        return httpx.Response(200)

    await Bench(answer).run()
    assert most == 1


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        ({"prompts": 1}, ["p0"]),
        ({"prompts": 0}, []),
        ({"hot": 0}, []),
        ({"models": frozenset({"other"})}, []),
        ({"models": None}, []),
        ({"kv": KvCache(2 * chat("p0  ").prompt_tokens, 0.0, 0)}, ["p0"]),
        ({"kv": KvCache(10**9, 0.0, 0)}, ["p0", "p1", "p2"]),
    ],
)
async def test_bounds(more: dict[str, object], sent: list[str]) -> None:
    """So many prompts, only of its models, no more than half of its cache; with nothing to send it is ready at once."""
    bench = Bench(**more)  # type: ignore[arg-type]
    await bench.run()
    assert (bench.names, bench.state) == (sent, READY)
    assert bench.outcomes == ["done" if sent else "nothing"]


async def test_time_is_over() -> None:
    """It takes traffic then, warm or not; slowness is no failure."""
    bench = Bench(silent, max_s=0.0)
    await bench.run()
    assert (bench.outcomes, bench.state) == (["cut"], READY)


async def test_one_that_was_put_out_for_its_requests_has_to_answer() -> None:
    """A frozen engine behind a good /health came back with every warm-up, and took requests that nobody answered."""
    bench = Bench(silent, max_s=0.0, condition=Condition(trials=1, down=True))
    await bench.run()
    assert (bench.outcomes, bench.state) == (["failed"], EJECTED)
    assert bench.board.current.replicas[0].condition.trials == 2


async def test_it_may_be_cut_in_the_middle() -> None:
    """What was answered counts, also for one that had to prove itself."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return await (good if b"p0" in request.content else silent)(request)

    bench = Bench(answer, max_s=0.05, condition=Condition(trials=1, down=True))
    await bench.run()
    assert (bench.names, bench.outcomes, bench.state) == (["p0", "p1"], ["cut"], READY)


async def test_no_answer_ends_it() -> None:
    """The connection is refused: it is not asked on."""

    async def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    bench = Bench(refuse)
    await bench.run()
    assert (bench.names, bench.outcomes, bench.state) == (["p0"], ["failed"], EJECTED)


async def test_a_server_error_everywhere() -> None:
    """As a vLLM that drains: it is not ready. The prompts are forgotten, should one of them be at fault."""
    bench = Bench(status(500))
    await bench.run()
    assert (bench.names, bench.outcomes, bench.state) == (["p0", "p1", "p2"], ["failed"], EJECTED)
    assert len(bench.hot) == 0


async def test_one_prompt_at_fault() -> None:
    """The others make it ready."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500 if b"p0" in request.content else 200)

    bench = Bench(answer)
    await bench.run()
    assert (bench.outcomes, bench.state, len(bench.hot)) == (["done"], READY, 2)


@pytest.mark.parametrize(("engine", "sent"), [("vllm", 2), ("openai", 1)])
async def test_an_engine_without_priorities(engine: str, sent: int) -> None:
    """vLLM may refuse the field unless it schedules by it: the prompt is sent again without. Others never get it."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400 if b"priority" in request.content else 200)

    bench = Bench(answer, hot=1, engine=engine)
    await bench.run()
    assert (len(bench.sent), bench.outcomes, bench.state) == (sent, ["done"], READY)


async def test_a_prompt_that_it_does_not_take() -> None:
    """It is too long for this replica, say; that is no failure."""
    bench = Bench(status(404))
    await bench.run()
    assert (len(bench.sent), bench.outcomes, bench.state, len(bench.hot)) == (3, ["nothing"], READY, 3)


async def test_an_answer_without_end() -> None:
    """One token has no megabyte."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"x" * (MAX_ANSWER_BYTES + 1))

    bench = Bench(answer)
    await bench.run()
    assert (bench.outcomes, bench.state) == (["failed"], EJECTED)


@pytest.mark.parametrize("sign", [Sign.REFUSED, Sign.DRAIN])
async def test_put_out_while_it_warms(sign: Sign) -> None:
    """The warm-up stops, is not counted, and does not make it ready; it may warm again later."""
    bench = Bench(silent)
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        if len(bench.sent) == 1 and bench.state is WARMING:
            bench.board.fold(HealthReading(R0, sign), 1.0)
            asked = len(bench.naps.taken)
        return asked > 0 and len(bench.naps.taken) > asked + 5

    await bench.run(stopped)
    assert bench.outcomes == []
    assert bench.state is (EJECTED if sign is Sign.REFUSED else ReplicaState.DRAINING)


async def test_replicas_do_not_wait_for_each_other() -> None:
    """One hangs, the other is ready."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return await (silent if request.url.host == "r0" else good)(request)

    bench = Bench(answer)
    other = ReplicaView(replica("r1"), WARMING, frozenset({"m"}))
    bench.board.publish(FleetSnapshot((*bench.board.current.replicas, other)))

    def ended() -> bool:
        if state_of(bench.board, "r1") is READY:
            bench.board.fold(HealthReading(R0, Sign.REFUSED), 1.0)
        return len(bench.naps.taken) > 20 and bool(bench.outcomes)

    await bench.run(ended)
    assert state_of(bench.board, "r1") is READY


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        (good, "INFO", "was warmed for 0.0 s: 3 of 3 prompts, {tokens} tokens; all of them are in its cache"),
        (status(500), "WARNING", "was warmed for 0.0 s: 0 of 3 prompts, 0 tokens; it answered none of them"),
    ],
)
async def test_it_is_logged_without_a_prompt(
    caplog: pytest.LogCaptureFixture, answer: Answer, level: str, words: str
) -> None:
    """How it went, in one line."""
    caplog.set_level(logging.INFO, "gateway.telemetry")
    await Bench(answer).run()
    tokens = 3 * chat("p0  ").prompt_tokens
    (record,) = caplog.records
    assert (record.levelname, record.message) == (level, f"replica r0 (http://r0:8000) {words.format(tokens=tokens)}")
