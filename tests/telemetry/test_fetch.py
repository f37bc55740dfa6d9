"""A page from elsewhere: bounded in bytes and in time, and each fault has its words."""

from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
import respx

from gateway.telemetry.fetch import MAX_PAGE_BYTES, fetch
from gateway.telemetry.poller import NoAnswer
from tests.telemetry.fakes import client_of

pytestmark = pytest.mark.anyio
URL = "http://r0:8000/metrics"


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 65536


async def test_a_page() -> None:
    """What was sent, asked for without compression."""
    router = respx.Router()
    route = router.get(URL, params={"q": "1"}).respond(content=b"a 1\n")
    async with client_of(router) as http:
        assert await fetch(http, URL, timeout_s=5, headers={"x": "y"}, params={"q": "1"}) == b"a 1\n"
    request = route.calls.last.request
    assert (request.headers["accept-encoding"], request.headers["x"]) == ("identity", "y")
    assert request.extensions["timeout"]["read"] == 5  # and not the client's own


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(503), "status 503"),
        (httpx.Response(302, headers={"location": "http://elsewhere/"}), "status 302"),
        (httpx.Response(200, content=endless()), f"a page of more than {MAX_PAGE_BYTES} bytes"),
        (
            httpx.Response(200, headers={"content-encoding": "gzip"}, content=endless()),
            "an answer that is compressed, which was not asked for",
        ),
        (httpx.ConnectError("refused"), "ConnectError refused"),
        (
            httpx.LocalProtocolError("b's3cret'"),
            "the request could not be written; is there a line break in its api_key?",
        ),
    ],
)
async def test_no_page_says_why(answer: httpx.Response | Exception, why: str) -> None:
    """Each way not to answer has its words for the log."""
    router = respx.Router()
    router.get(URL).mock(**({"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}))
    async with client_of(router) as http:
        with pytest.raises(NoAnswer) as caught:
            await fetch(http, URL, timeout_s=5)
    assert str(caught.value) == why


async def test_a_page_that_never_ends() -> None:
    """The whole answer has a time limit, not only each read."""

    async def silent(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    async with httpx.AsyncClient(transport=httpx.MockTransport(silent)) as http:
        with pytest.raises(NoAnswer, match="no whole answer"):
            await fetch(http, URL, timeout_s=0.0)
