"""Heads of requests that are no HTTP, or too much of it: nothing of them reaches a replica."""

import pytest

from tests.http.strict import BODY, HEAD, LENGTH, refused
from tests.peers import Peers
from tests.running import Running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
        HEAD + LENGTH + b"content-length: 5\r\n\r\n" + BODY,
        HEAD + b"content-length: 5, 5\r\n\r\n" + BODY,
        HEAD + b"content-length: -1\r\n\r\n" + BODY,
        HEAD + b"content-length: +5\r\n\r\n" + BODY,
        HEAD + b"content-length: 0x5\r\n\r\n" + BODY,
        HEAD + b"content-length: \r\n\r\n" + BODY,
        HEAD + b"content-length: 99999999999999999999999\r\n\r\n" + BODY,
        HEAD + LENGTH + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        HEAD + LENGTH + b"x-folded: a\r\n b\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-folded: a\r\n\tb\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-bare: a\nx-next: b\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-bare: a\rx-next: b\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-nul: a\0b\r\n\r\n" + BODY,
        HEAD + LENGTH + b"x-\0nul: a\r\n\r\n" + BODY,
        HEAD + LENGTH + b"no colon\r\n\r\n" + BODY,
        HEAD + LENGTH + b": no name\r\n\r\n" + BODY,
        HEAD.replace(b"\r\n", b"\n") + b"\n",
        HEAD + LENGTH + b"x: y\n\n",
        b"POST /v1/chat/completions\r\n\r\n",
        b"POST /v1/chat/completions HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1 x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/2.0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/0.9\r\n\r\n",
        b"POST /v1/chat/completions?a b HTTP/1.1\r\n\r\n",
        b"P\xd6ST /v1/chat/completions HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda raw: repr(raw.removeprefix(HEAD).removeprefix(LENGTH))[2:50],
)
async def test_a_head_that_is_not_http(harness: Running, peers: Peers, raw: bytes) -> None:
    """400, by which the connection ends: where the next request would begin is anybody's guess."""
    response = await refused(harness, raw)
    assert (response.status, response.error["type"]) == (400, "invalid_request_error")
    assert peers.calls == []


@pytest.mark.parametrize("ended", [True, False])
async def test_a_hundred_kilobytes_of_headers(harness: Running, peers: Peers, ended: bool) -> None:
    """431, with or without the blank line having come."""
    lines = b"".join(b"x-%d: %b\r\n" % (number, b"y" * 1000) for number in range(100))
    response = await refused(harness, HEAD + LENGTH + lines + (b"\r\n" + BODY if ended else b""))
    assert (response.status, response.error["code"]) == (431, "headers_too_large")
    assert peers.calls == []


async def test_an_expectation_that_nobody_can_meet(harness: Running, peers: Peers) -> None:
    """417, and nothing reaches a replica."""
    response = await refused(harness, HEAD + LENGTH + b"expect: tea\r\n\r\n" + BODY)
    assert (response.status, response.error["code"]) == (417, "expectation_failed")
    assert peers.calls == []
