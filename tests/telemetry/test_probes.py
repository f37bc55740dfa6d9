"""Health probes: both paths, whose key, and each way in which a replica may not be well."""

import anyio
import httpx
import pytest
import respx

from gateway.core.types import ModelsReading, ReplicaId
from gateway.telemetry.poller import NoAnswer
from gateway.telemetry.probes import Prober
from tests.telemetry.fakes import client_of, replica

pytestmark = pytest.mark.anyio
LIST = {"data": [{"id": "m"}]}


async def asked(router: respx.Router, **more: str) -> ModelsReading:
    async with client_of(router) as http:
        return await Prober(http, path="/alive", timeout_s=1.0).ask(replica("r0", **more))


async def test_health_first_then_models() -> None:
    """The configured path, with the replica's own key."""
    router = respx.Router()
    health = router.get("http://r0:8000/alive").respond(200)
    router.get("http://r0:8000/v1/models").respond(json=LIST)
    assert await asked(router, api_key="s3cret") == ModelsReading(ReplicaId("r0"), frozenset({"m"}))
    assert health.calls.last.request.headers["authorization"] == "Bearer s3cret"


async def test_a_server_of_which_only_the_api_is_known() -> None:
    """It need not have a health path."""
    router = respx.Router()
    router.get("http://r0:8000/v1/models").respond(json=LIST)
    assert (await asked(router, engine="openai")).models == {"m"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(503), "/alive: status 503"),
        (httpx.Response(302, headers={"location": "/"}), "/alive: status 302"),
        (httpx.ConnectError("refused"), "/alive: ConnectError refused"),
        (httpx.ReadTimeout(""), "/alive: ReadTimeout"),
        (
            httpx.LocalProtocolError("Illegal header b's3cret\\n'"),
            "the request could not be written; is there a line break in its api_key?",
        ),
    ],
)
async def test_not_well(answer: httpx.Response | Exception, why: str) -> None:
    """Its models are not asked for; the log has the words, and no key."""
    router = respx.Router()
    route = router.get("http://r0:8000/alive")
    route.mock(**({"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}))
    with pytest.raises(NoAnswer) as caught:
        await asked(router, api_key="s3cret")
    assert str(caught.value) == why


async def test_a_health_path_that_never_answers() -> None:
    """The time-out is for the whole, not for each read."""

    async def silent(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    async with httpx.AsyncClient(transport=httpx.MockTransport(silent)) as http:
        with pytest.raises(NoAnswer, match=r"^/alive: nothing in 0\.0 s$"):
            await Prober(http, path="/alive", timeout_s=0.0).ask(replica("r0"))


async def test_models_that_are_none() -> None:
    """Well, but no OpenAI server."""
    router = respx.Router()
    router.get("http://r0:8000/alive").respond(200)
    router.get("http://r0:8000/v1/models").respond(text="hello")
    with pytest.raises(NoAnswer, match="its answer is no list of models"):
        await asked(router)
