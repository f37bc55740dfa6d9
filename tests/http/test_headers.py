"""Headers, towards the replica and towards the client."""

import msgspec
import pytest

from gateway.config import ReplicaConfig
from tests.http.exchanges import exchange
from tests.peers import DONE, WHOLE, scripted, sized, token
from tests.raw import CHAT, chat, connect, request
from tests.running import config_for, running

pytestmark = pytest.mark.anyio


async def test_headers_towards_the_replica() -> None:
    """Credentials and what is meant for one hop stay behind, also when `Connection` names it only afterwards; the
    rest goes on as it came, with the replica's own key."""
    async with scripted() as peers:
        replica = ReplicaConfig(url=peers.urls[0], name="r0", api_key="the-replicas-own")
        config = msgspec.structs.replace(config_for(peers.urls), replicas=(replica,))
        stays = [
            "Authorization: Bearer clients", "x-api-key: clients", "api-key: clients", "Cookie: a=b",
            "Proxy-Authorization: Basic x", "Keep-Alive: timeout=5", "TE: trailers", "Trailer: x", "Upgrade: h2c",
            "Proxy-Connection: keep-alive", "HTTP2-Settings: AA", "Accept-Encoding: gzip", "x-early: 1",
            "Connection: keep-alive, X-Early, x-late", "x-late: 1", "x-gateway-class: batch",
        ]  # fmt: skip
        goes = ["Accept: */*", "User-Agent: me", "X-Session-Id: s1", "traceparent: 00-aa-bb-01", "x-odd: h\u00e9llo"]
        async with running(config) as harness:
            raw = request(CHAT, chat(), *stays, *goes, "x-request-id: my-id")
            call, response = await exchange(harness, peers, raw.replace(b"host: gateway", b"host: me"), sized(b"{}"))
        names = [name for name, _ in call.headers]
        assert len(names) == len(set(names))
        assert set(names) == {
            b"host", b"authorization", b"content-type", b"content-length", b"x-request-id", b"accept", b"user-agent",
            b"x-session-id", b"traceparent", b"x-odd",
        }  # fmt: skip
        assert call.header(b"authorization") == [b"Bearer the-replicas-own"]
        assert call.header(b"host") == [peers.urls[0].removeprefix("http://").encode()]
        assert call.header(b"x-odd") == ["h\u00e9llo".encode()]
        assert call.header(b"x-request-id") == [b"my-id"]
        assert response.header("x-request-id") == "my-id"


async def test_headers_towards_the_client() -> None:
    """The replica's headers, but those of its hop; who answered and why; one request id, made where there is none."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        answer = sized(b"{}", b"200 OK", b"Server: uvicorn", b"vary: Origin", b"keep-alive: timeout=5",
                       b"connection: keep-alive", b"X-Request-Id: the-replicas", b"set-cookie: a=b")  # fmt: skip
        call, response = await exchange(harness, peers, request(CHAT, chat()), answer)
        made = call.header(b"x-request-id")[0].decode()
        assert response.headers == [
            ("content-type", "application/json"), ("server", "uvicorn"), ("vary", "Origin"), ("set-cookie", "a=b"),
            ("content-length", "2"), ("x-gateway-replica", "r0"), ("x-gateway-reason", "load"),
            ("x-request-id", made),
        ]  # fmt: skip
        (record,) = await harness.settled(1)
        assert (record["request_id"], record["replica"], record["reason"], record["attempts"]) == (
            made,
            "r0",
            "load",
            1,
        )


@pytest.mark.parametrize("bad", ["x" * 129, "", "h\u00e9"])
async def test_a_request_id_that_cannot_be_used_is_replaced(bad: str) -> None:
    """Too long, empty or not ASCII: the gateway makes its own."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        call, response = await exchange(harness, peers, request(CHAT, chat(), f"x-request-id: {bad}"), sized(b"{}"))
        (told,) = call.header(b"x-request-id")
        assert told
        assert response.header("x-request-id") == told.decode() != bad


async def test_an_http_1_0_client() -> None:
    """Gets no chunks: a stream ends with the connection, a whole answer has its length, and both close."""
    async with scripted() as peers, running(config_for(peers.urls)) as harness:
        for answer, body in ((WHOLE, b"".join((token("a"), token("b", "stop"), DONE))), (sized(b"{}"), b"{}")):
            async with connect(harness.port) as client:
                client.send(request(CHAT, chat(stream=answer is WHOLE), version="1.0"))
                (await peers.call()).send(answer)
                response = await client.response()
                assert response.header("transfer-encoding") is None
                assert (response.body, response.complete) == (body, True)
                assert response.header("connection") == "close"
                assert await client.ended()
