"""A process that ends while others share its port, and one that ends for good: what arrives on open connections."""

import signal

import anyio
import httpx
import pytest

from gateway.emulator.fleet import Fleet
from gateway.serving.front import Front
from tests.raw import CHAT, chat, connect
from tests.running import config_for, running

pytestmark = pytest.mark.anyio


async def test_who_retires_serves_what_arrives_and_says_that_it_is_the_last() -> None:
    """A client with a kept-alive connection notices nothing but `connection: close`; `run` returns after it."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as harness, connect(harness.port) as client:
        client.post(chat(max_tokens=2))
        first = await client.response()
        harness.gateway.retire()
        client.post(chat(max_tokens=2))
        last = await client.response()
        assert (first.status, first.header("connection")) == (200, None)
        assert (last.status, last.header("connection")) == (200, "close")
        with anyio.fail_after(10):
            await harness.gateway.stopped.wait()


async def test_who_retires_lets_a_running_stream_finish_and_accepts_nobody() -> None:
    """Its listener is closed at once, and the stream goes on to its end."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as harness, connect(harness.port) as client:
        client.post(chat(stream=True, max_tokens=60, ignore_eos=True))
        await client.until(b'"content":" ')
        harness.gateway.retire()
        with anyio.fail_after(10):
            while harness.gateway.public.servers[0].is_serving():
                await anyio.sleep(0.005)
        with pytest.raises(OSError):
            await anyio.connect_tcp("127.0.0.1", harness.port)
        await client.until(b"data: [DONE]\n\n")


async def test_idle_connections_of_one_that_retires_end_soon() -> None:
    """Six seconds after the last answer, not seventy-five: few pools use them again after that."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as harness, connect(harness.port) as client:
        client.post(chat(max_tokens=2))
        await client.response()
        (front,) = harness.gateway.public.server_state.connections
        assert isinstance(front, Front)
        before = front.deadline
        harness.gateway.retire()
        assert before - front.deadline == pytest.approx(69.0)


async def test_after_sigterm_the_port_stays_open_and_refuses() -> None:
    """`/readyz` tells balancers, and requests get 503 with `Retry-After` on a connection that then closes."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as harness, connect(harness.port) as kept:
        kept.post(chat(max_tokens=2))
        assert (await kept.response()).status == 200
        harness.gateway.public.handle_exit(signal.SIGTERM, None)
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{harness.url}/readyz")).status_code == 503
            new = await http.post(f"{harness.url}{CHAT}", json=chat())
            assert (new.status_code, new.headers["retry-after"], new.headers["connection"]) == (503, "1", "close")
        kept.post(chat())
        refused = await kept.response()
        assert (refused.status, refused.header("retry-after"), refused.header("connection")) == (503, "1", "close")
