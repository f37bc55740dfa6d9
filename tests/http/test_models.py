"""Which replicas a model name leads to, over real sockets: aliases, and models that only some replicas have."""

from collections.abc import Mapping

import httpx
import msgspec
import pytest

from gateway.config import Config
from gateway.config.keys import Models
from gateway.emulator.fleet import Fleet
from tests.peers import scripted, sized
from tests.raw import chat, connect, request
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio


def aliased(urls: list[str], aliases: Mapping[str, str]) -> Config:
    return msgspec.structs.replace(config_for(urls, policy="prefix"), models=Models(aliases=dict(aliases)))


async def metrics(harness: Running) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"{harness.admin_url}/metrics")).text


async def test_only_the_model_of_a_body_changes() -> None:
    """The replica gets the served name and the client's bytes; the client gets the replica's bytes."""
    async with scripted() as peers, running(aliased(peers.urls, {"gpt-4": "emulated"})) as harness:
        peers.answer = lambda call: call.send(sized(b'{"model" : "emulated"}'))
        async with connect(harness.port) as client:
            answer = await client.ask(b'{ "model" :"gpt-4","messages": [ ], "temperature":0.70 }')
            assert answer.body == b'{"model" : "emulated"}'
            form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4\r\n--x--\r\n'
            await client.ask(form, "/v1/audio/transcriptions", "content-type: multipart/form-data; boundary=x")
        assert peers.calls[0].body == b'{ "model" :"emulated","messages": [ ], "temperature":0.70 }'
        assert peers.calls[1].body == form.replace(b"gpt-4", b"emulated")
        records = await harness.settled(2)
        assert {record["model"] for record in records} == {"emulated"}
        assert "gpt-4" not in await metrics(harness)


async def test_an_alias_shares_its_models_cache_and_an_alias_of_nothing_is_a_404() -> None:
    """The prefix index knows one model, whatever it is called."""
    async with Fleet(2, speed=50) as fleet:
        aliases = {"gpt-4": "emulated", "gpt-5": "nothing"}
        async with running(aliased(fleet.urls, aliases)) as harness, connect(harness.port) as client:
            first = await client.ask(chat("An old story. " * 200, max_tokens=1))
            second = await client.ask(chat("An old story. " * 200, max_tokens=1) | {"model": "gpt-4"})
            assert second.header("x-gateway-reason") == "prefix"
            assert second.header("x-gateway-replica") == first.header("x-gateway-replica")
            async with httpx.AsyncClient(trust_env=False) as http:
                told = await http.post(f"{harness.admin_url}/admin/explain", json=chat() | {"model": "gpt-4"})
            assert told.json()["model"] == "emulated"
            missing = await client.ask(chat() | {"model": "gpt-5"})
            assert (missing.status, missing.error["code"]) == (404, "model_not_found")
            client.send(request("/v1/models", b"", method="GET"))
            listed = msgspec.json.decode((await client.response()).body)["data"]
            assert [(model["id"], model["root"]) for model in listed] == [
                ("emulated", "emulated"),
                ("gpt-4", "emulated"),
            ]


async def test_an_adapter_is_asked_for_where_it_is() -> None:
    """Only the replica that lists it is asked, its prompts are not its base's, and the list names its parent."""
    async with Fleet(2) as plain, Fleet(1, adapters=("tuned",)) as tuned:
        config = aliased([*plain.urls, *tuned.urls], {"mine": "tuned"})
        async with running(config) as harness, connect(harness.port) as client:
            said = chat("An old story. " * 200, max_tokens=1)
            for _ in range(3):
                adapted = await client.ask(said | {"model": "tuned"})
                assert (adapted.status, adapted.header("x-gateway-replica")) == (200, "r2")
            other = await client.ask(said)
            # The same text at the same replica is another prompt: an adapter has KV blocks of its own.
            assert other.header("x-gateway-reason") == "load"
            assert msgspec.json.decode((await client.ask(said | {"model": "mine"})).body)["model"] == "tuned"
            client.send(request("/v1/models", b"", method="GET"))
            listed = msgspec.json.decode((await client.response()).body)["data"]
            assert [(model["id"], model["root"], model["parent"]) for model in listed] == [
                ("emulated", "emulated", None),
                ("mine", "tuned", "emulated"),
                ("tuned", "tuned", "emulated"),
            ]
        assert sum(replica.requests_seen for replica in plain.replicas) <= 1
