import asyncio

import pytest

from gateway.emulator.driver import Driver
from gateway.emulator.engine import EngineModel, EngineParams, EngineRequest

pytestmark = pytest.mark.anyio


def request(name: str, tokens: int = 3) -> EngineRequest:
    return EngineRequest(id=name, blocks=(), prompt_tokens=10, max_tokens=tokens)


def driver() -> Driver:
    return Driver(EngineModel(EngineParams.named("8b-h100")), speed=1000)


async def test_all_tokens_are_told_and_the_last_call_says_so() -> None:
    """However they are merged, the counts add up, and only the last one is finished."""
    calls: list[tuple[int, bool]] = []
    ended = asyncio.get_running_loop().create_future()

    def listen(tokens: int, cached: int, finished: bool) -> None:
        calls.append((tokens, finished))
        if finished:
            ended.set_result(None)

    driver().submit(request("a", 50), listen)
    await ended
    assert sum(tokens for tokens, _ in calls) == 50
    assert [finished for _, finished in calls] == [False] * (len(calls) - 1) + [True]


async def test_an_aborted_request_is_never_heard_of_again() -> None:
    """Also when its news are due in the same round as those of the one that aborts it."""
    under_test = driver()
    ended = asyncio.get_running_loop().create_future()
    heard: list[str] = []

    def abort_the_other(tokens: int, cached: int, finished: bool) -> None:
        heard.append("a")
        under_test.abort("b")

    under_test.submit(request("a"), abort_the_other)
    under_test.submit(request("b"), lambda *_: heard.append("b"))
    under_test.submit(request("c", 40), lambda _, __, finished: ended.set_result(None) if finished else None)
    await ended
    assert set(heard) == {"a"}
    assert under_test.engine.running == 0


async def test_a_late_listener_loses_nothing() -> None:
    """Symptom: on a busy machine a stream never ended. What ended while a listener was at work, and before it aborted
    another request, is told all the same."""
    under_test = driver()
    ended = asyncio.get_running_loop().create_future()

    def dawdle(tokens: int, cached: int, finished: bool) -> None:
        late = under_test.now() + 10.0
        while under_test.now() < late:
            pass
        under_test.abort("b")

    under_test.submit(request("a", 1), dawdle)
    under_test.submit(request("b", 20), lambda *_: None)
    under_test.submit(request("c", 40), lambda _, __, finished: ended.set_result(None) if finished else None)
    await asyncio.wait_for(ended, 10)
    assert under_test.engine.running == 0


async def test_time_stands_still_while_frozen() -> None:
    """A thawed engine goes on where it stood."""
    under_test = driver()
    under_test.freeze()
    before = under_test.now()
    ended = asyncio.get_running_loop().create_future()
    under_test.submit(request("a", 1), lambda *_: ended.set_result(None))
    assert under_test.now() == before
    under_test.thaw()
    await ended
