"""Requests that do not come to their end in time."""

import anyio
import pytest

from tests.http.strict import BODY, HEAD, LENGTH
from tests.peers import Peers
from tests.raw import Client, Response, connect
from tests.running import Running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "start",
    [
        b"P",
        HEAD,
        HEAD + LENGTH + b"\r\n",
        HEAD + LENGTH + b"\r\n" + BODY[:-1],
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhe",
        HEAD + LENGTH + b"expect: 100-continue\r\n\r\n",
    ],
    ids=["a letter", "half a head", "no body", "half a body", "half a chunk", "continued"],
)
async def test_an_upload_that_stalls(harness: Running, peers: Peers, start: bytes) -> None:
    """408 after `request_read_timeout_s`."""
    async with connect(harness.port) as client:
        client.send(start)
        if b"expect" in start:
            await client.until(b"Continue\r\n\r\n")
        response = await client.response()
        assert (response.status, response.error["code"]) == (408, "upload_timeout")
        assert await client.ended()
    assert peers.calls == []
    assert (await harness.settled(1))[-1]["status"] == 408


async def dribble(client: Client, start: bytes, more: bytes) -> Response:
    """Send a little again and again, until there is an answer."""
    client.send(start)
    response: list[Response] = []

    async def read(scope: anyio.CancelScope) -> None:
        response.append(await client.response())
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(read, group.cancel_scope)
        while True:
            client.send(more)
            await anyio.sleep(0.01)
    return response[0]


@pytest.mark.parametrize(
    ("start", "more"),
    [(HEAD, b"x-slow: 1\r\n"), (HEAD + b"content-length: 100000\r\n\r\n", b"x"), (b"", b"\r\n")],
    ids=["head", "body", "empty lines"],
)
async def test_a_slowloris(harness: Running, peers: Peers, start: bytes, more: bytes) -> None:
    """A byte now and then does not keep a request alive: 408, which ends its connection."""
    async with connect(harness.port) as client:
        assert (await dribble(client, start, more)).status == 408
    assert peers.calls == []
