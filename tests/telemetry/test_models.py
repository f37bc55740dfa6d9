"""A replica's list of models: what is read from it, and each way in which it may not answer."""

from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
import respx

from gateway.core.types import ModelsReading, ReplicaId
from gateway.telemetry.models import MAX_BODY_BYTES, ModelsReader, no_answer, parse_models, parse_parents
from gateway.telemetry.poller import NoAnswer
from tests.telemetry.fakes import client_of, replica

pytestmark = pytest.mark.anyio
LIST = {"object": "list", "data": [{"id": "m", "object": "model"}, {"id": "org/lora", "parent": "m"}]}


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"object": "list", "data": [{"id": "a"}, {"id": "org/b", "max_model_len": 8}]}', {"a", "org/b"}),
        (b'{"data": []}', set()),
        (b'{"data": [{"id": "a"}, {"id": 7}, {"name": "b"}, null, {"id": ""}]}', {"a"}),
        (b'{"data": [{"id": "a"}, {"id": "a"}]}', {"a"}),
        (b'{"data": [{"id": 7}]}', None),
        (b'{"data": {"id": "a"}}', None),
        (b'{"data": null}', None),
        (b"{}", None),
        (b'["a"]', None),
        (b"", None),
        (b"<html>", None),
        (b'{"data": [{"id": "\xff"}]}', None),
        (b"[" * 100_000, None),
        (b'{"data": ' + b"[" * 100_000, None),
    ],
)
def test_parse(body: bytes, names: set[str] | None) -> None:
    """Names from OpenAI's shape; None for what is no such list."""
    assert parse_models(body) == names


def test_parents() -> None:
    """Of adapters only; what is no name is passed over, and the order is always the same."""
    body = b"""{"data": [{"id": "b", "parent": "m"}, {"id": "m", "parent": null}, {"id": "a", "parent": "m"},
        {"id": "a", "parent": "m"}, {"id": "c", "parent": 7}, {"id": "d", "parent": ""}, {"parent": "m"}, 7]}"""
    assert parse_parents(body) == (("a", "m"), ("b", "m"))


async def test_it_asks_with_the_replicas_own_key() -> None:
    """The key of one replica is sent to that one only."""
    router = respx.Router()
    one = router.get("http://r0:8000/v1/models").respond(json=LIST)
    two = router.get("http://r1:8000/v1/models").respond(json=LIST)
    async with client_of(router) as http:
        reader = ModelsReader(http)
        assert await reader.ask(replica("r0", api_key="s3cret")) == ModelsReading(
            ReplicaId("r0"), frozenset({"m", "org/lora"}), (("org/lora", "m"),)
        )
        await reader.ask(replica("r1"))
    assert one.calls.last.request.headers["authorization"] == "Bearer s3cret"
    assert "authorization" not in two.calls.last.request.headers


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 65536


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(401), "status 401"),
        (httpx.Response(302, headers={"location": "http://elsewhere/"}), "status 302"),
        (httpx.Response(200, text="hello"), "its answer is no list of models"),
        (httpx.Response(200, content=endless()), f"a list of more than {MAX_BODY_BYTES} bytes"),
        (httpx.ConnectError("refused"), "ConnectError refused"),
        (httpx.ReadTimeout(""), "ReadTimeout"),
        (httpx.DecodingError("bad gzip"), "DecodingError bad gzip"),
    ],
)
async def test_no_answer_says_why(answer: httpx.Response | Exception, why: str) -> None:
    """Each way not to answer has its words for the log."""
    router = respx.Router()
    route = router.get("http://r0:8000/v1/models")
    route.mock(**({"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}))
    async with client_of(router) as http:
        with pytest.raises(NoAnswer) as caught:
            await ModelsReader(http).ask(replica("r0"))
    assert str(caught.value) == why


async def test_a_replica_that_never_ends_its_answer() -> None:
    """The whole answer has a time limit, not only each read."""

    async def silent(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    async with httpx.AsyncClient(transport=httpx.MockTransport(silent)) as http:
        with pytest.raises(NoAnswer, match="no whole answer"):
            await ModelsReader(http, timeout_s=0.0).ask(replica("r0"))


async def test_a_broken_key_is_not_told() -> None:
    """h11 quotes an illegal header in its error; the log must not."""
    router = respx.Router()
    router.get("http://r0:8000/v1/models").mock(side_effect=httpx.LocalProtocolError("Illegal header b's3cret\\n'"))
    async with client_of(router) as http:
        with pytest.raises(NoAnswer) as caught:
            await ModelsReader(http).ask(replica("r0", api_key="s3cret\n"))
    assert "s3cret" not in str(caught.value)


def test_the_reading_of_no_answer() -> None:
    """Unknown is None."""
    assert no_answer(ReplicaId("r0")) == ModelsReading(ReplicaId("r0"), None)
