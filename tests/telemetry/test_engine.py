"""Engine metrics from the page to the board, and what each bad page makes of them."""

import anyio
import httpx
import pytest
import respx

from gateway.core.books import Books
from gateway.core.fleet import Board
from gateway.core.types import FleetSnapshot, KvCache, ReplicaId, ReplicaView
from gateway.telemetry.engine import EngineTelemetry
from gateway.telemetry.poller import NoAnswer
from tests.telemetry.fakes import ManualClock, Naps, board_of, client_of, replica, run_until

pytestmark = pytest.mark.anyio
PAGE = b"""process_start_time_seconds 1e9
vllm:num_requests_running{engine="0"} 3
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100"} 1
"""


def telemetry(http: httpx.AsyncClient, board: Board, books: Books | None = None, **more: object) -> EngineTelemetry:
    made = {"interval_s": 0.25, "timeout_s": 1.0, "count": lambda _: None} | more
    return EngineTelemetry(http, board, books or Books(), ManualClock(), **made)


async def test_a_page_reaches_the_board() -> None:
    """With K of the books at that time; the replica's own key is shown to it."""
    board, books = board_of("r0"), Books()
    books.open(ReplicaId("r0"), 10, 70)
    router = respx.Router()
    route = router.get("http://r0:8000/metrics").respond(content=PAGE)
    async with client_of(router) as http:
        assert await telemetry(http, board, books).ask(replica("r0", api_key="s3cret")) is None
    assert route.calls.last.request.headers["authorization"] == "Bearer s3cret"
    (view,) = board.current.replicas
    assert view.kv == KvCache(1600, 0.25, 70)
    assert view.engine is not None
    assert view.engine.at == 100.0


@pytest.mark.parametrize("page", [b"<html>502</html>", b"", b"sglang:token_usage 0.5\n", b"\x1f\x8b\x00"])
async def test_no_page_of_its_engine(page: bytes) -> None:
    """It publishes nothing, and says what was expected."""
    board = board_of("r0")
    router = respx.Router()
    router.get("http://r0:8000/metrics").respond(content=page)
    async with client_of(router) as http:
        with pytest.raises(NoAnswer, match="a page without metrics of vllm"):
            await telemetry(http, board).ask(replica("r0"))
    assert board.current.replicas[0].engine is None


async def test_a_figure_that_cannot_be_is_told() -> None:
    """The others count."""
    board = board_of("r0")
    router = respx.Router()
    router.get("http://r0:8000/metrics").respond(content=PAGE.replace(b"0.25", b"NaN"))
    async with client_of(router) as http:
        wrong = await telemetry(http, board).ask(replica("r0"))
    assert wrong == "a page without KV cache usage or capacity that can be right"
    (view,) = board.current.replicas
    assert view.kv is None
    assert view.engine is not None
    assert view.engine.last.running == 3


async def test_each_replica_has_its_own_loop() -> None:
    """One that hangs delays no other, one that fails is counted, one that leaves is asked no more, and an engine
    without metrics is never asked."""
    slow, quick, broken = (ReplicaView(replica(name)) for name in ("slow", "quick", "broken"))
    other = ReplicaView(replica("other", engine="openai"))
    board, counted = Board(FleetSnapshot((slow, quick, broken, other))), []
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "slow":
            await anyio.sleep_forever()
        return httpx.Response(500) if request.url.host == "broken" else httpx.Response(200, content=PAGE)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        built = telemetry(http, board, timeout_s=60, count=counted.append, sleep=Naps(limit=10**9))
        await run_until(built.run, lambda: asked.count("quick") > 3 and len(counted) > 3)
        assert set(asked) == {"slow", "quick", "broken"}
        assert set(counted) == {"broken"}
        assert repr(built) == "<EngineTelemetry of 3 replicas each 0.25 s>"
        board.publish(FleetSnapshot((slow,)))
        built = telemetry(http, board, timeout_s=60, sleep=Naps(limit=10**9))
        asked.clear()
        await run_until(built.run, lambda: "slow" in asked)
        assert "quick" not in asked


async def test_one_that_leaves_is_asked_no_more() -> None:
    """Its loop ends; should it come back, it gets another."""
    board = board_of("r0")
    asked = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked == 3:
            board.publish(FleetSnapshot())
        return httpx.Response(200, content=PAGE)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        built = telemetry(http, board, sleep=Naps(limit=10**9))
        await run_until(built.run, lambda: asked == 3 and repr(built).startswith("<EngineTelemetry of 0 "))
        board.publish(board_of("r0").current)
        await run_until(built.run, lambda: asked > 3)
