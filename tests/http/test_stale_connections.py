"""Kept-alive connections that the replica has closed in the meantime."""

import pytest

from tests.http.failures import CALM
from tests.peers import scripted, sized
from tests.raw import chat, connect
from tests.running import config_for, running

pytestmark = pytest.mark.anyio


async def test_a_stale_connection_is_no_failure() -> None:
    """The replica closes a kept-alive connection as the request comes: it is asked again on a new one, which is no
    second attempt, and the replica stays in good standing."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        client.post(chat())
        first = await peers.call()
        first.send(sized(b"1"))
        assert (await client.response()).body == b"1"
        client.post(chat())
        stale = await peers.call()
        assert stale.connection is first.connection
        stale.close()
        fresh = await peers.call()
        assert fresh.connection is not first.connection
        fresh.send(sized(b"2"))
        response = await client.response()
        assert (response.status, response.body, response.header("x-gateway-attempts")) == (200, b"2", None)
        assert [record["attempts"] for record in await harness.settled(2)] == [1, 1]


async def test_a_connection_that_closed_while_idle() -> None:
    """It is gone from the pool before anybody needs it."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness, connect(harness.port) as client:
        for _ in range(3):
            client.post(chat())
            call = await peers.call()
            call.send(sized(b"{}"))
            call.close()
            assert (await client.response()).header("x-gateway-attempts") is None
        assert [record["attempts"] for record in await harness.settled(3)] == [1, 1, 1]


async def test_every_replica_has_a_stale_connection() -> None:
    """The first replica's connection is stale and its new one is refused; the second's is stale, too: that is still
    one failed attempt, and the second replica's answer on a new connection."""
    async with (
        scripted(2) as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as one,
        connect(harness.port) as two,
    ):
        one.post(chat())
        two.post(chat())
        calls = [await peers.call(), await peers.call()]
        for call in calls:
            call.send(sized(b"{}"))
        await one.response()
        await two.response()
        one.post(chat())
        (await peers.call()).close()  # stale
        (await peers.call()).close()  # its new connection fails, too
        (await peers.call()).close()  # stale, at the other replica
        (await peers.call()).send(sized(b"good"))
        response = await one.response()
        assert (response.status, response.body, response.header("x-gateway-attempts")) == (200, b"good", "2")


async def test_a_request_that_was_half_answered_is_not_sent_again() -> None:
    """Bytes have come on a kept-alive connection before it broke: with one replica that is a failure."""
    async with (
        scripted() as peers,
        running(config_for(peers.urls, resilience=CALM)) as harness,
        connect(harness.port) as client,
    ):
        client.post(chat())
        (await peers.call()).send(sized(b"{}"))
        await client.response()
        client.post(chat())
        call = await peers.call()
        call.send(b"HTTP/1.1 200")
        call.close()
        assert (await client.response()).status == 502
        assert len(peers.calls) == 2
