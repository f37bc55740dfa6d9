"""Status codes and error bodies, as listed for the real vLLM."""

from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from gateway.emulator.expected import expected_text
from gateway.emulator.fleet import Fleet
from tests.emulator.peer import chat

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("path", ["/health", "/ping"])
async def test_health_is_empty(client: httpx.AsyncClient, path: str) -> None:
    """200 and no body."""
    answer = await client.get(path)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_what_it_serves(client: httpx.AsyncClient) -> None:
    """/v1/models names the default model and its longest context; version and load are vLLM's."""
    models = (await client.get("/v1/models")).json()
    assert [(m["id"], m["owned_by"], m["max_model_len"]) for m in models["data"]] == [("emulated", "vllm", 32768)]
    assert (await client.get("/version")).json() == {"version": "0.32.0"}
    assert (await client.get("/load")).json() == {"server_load": 0}


@pytest.mark.parametrize(
    ("path", "body", "status", "type_", "param"),
    [
        (CHAT, b"{", 400, "Bad Request", "body"),
        (CHAT, b"", 400, "Bad Request", "body"),
        (CHAT, b"[]", 400, "Bad Request", "body"),
        (CHAT, {}, 400, "Bad Request", "body.messages"),
        (CHAT, {"messages": "x"}, 400, "Bad Request", "body.messages"),
        (CHAT, chat("x", temperature="hot"), 400, "Bad Request", "body.temperature"),
        (CHAT, chat("x", temperature=-1), 400, "BadRequestError", "temperature"),
        (CHAT, chat("x", max_tokens=0), 400, "BadRequestError", "max_tokens"),
        (CHAT, chat("x", max_tokens=99999), 400, "BadRequestError", "max_tokens"),
        (CHAT, chat("x", cache_salt=""), 400, "BadRequestError", "cache_salt"),
        (CHAT, chat("x", n=0), 400, "BadRequestError", "n"),
        (CHAT, chat("word " * 40000), 400, "BadRequestError", "input_tokens"),
        (CHAT, chat("x", model="nope"), 404, "NotFoundError", "model"),
        ("/v1/completions", {"prompt": ""}, 400, "BadRequestError", "prompt"),
        ("/v1/completions", {"prompt": [1, "a", 2]}, 400, "Bad Request", "body.prompt"),
        ("/v1/messages", {"messages": []}, 400, "Bad Request", "body.max_tokens"),
        ("/v1/embeddings", {}, 400, "Bad Request", "body.input"),
        ("/v1/rerank", {"query": "a"}, 400, "Bad Request", "body.documents"),
        ("/tokenize", {}, 400, "Bad Request", "body.prompt"),
    ],
)
async def test_refusals(client: httpx.AsyncClient, path: str, body: Any, status: int, type_: str, param: str) -> None:
    """The client's mistakes, in OpenAI's object with the status repeated as code."""
    json_type = {"content-type": "application/json"}
    sent = {"content": body, "headers": json_type} if isinstance(body, bytes) else {"json": body}
    answer = await client.post(path, **sent)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"], error["code"]) == (status, type_, param, status)


async def test_other_shapes_of_refusals(client: httpx.AsyncClient) -> None:
    """Unknown paths and methods speak FastAPI's dialect, an unknown model on /v1/messages Anthropic's."""
    unknown, method = await client.get("/nope"), await client.get(CHAT)
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found"})
    assert (method.status_code, method.json()) == (405, {"detail": "Method Not Allowed"})
    anthropic = await client.post("/v1/messages", json=chat("x", model="nope", max_tokens=1))
    assert (anthropic.status_code, anthropic.json()["type"]) == (404, "error")
    form = await client.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})
    assert form.status_code == 400


async def test_the_key_guards_v1_only() -> None:
    """A wrong or missing bearer token is 401 with a bare string; probes need none; x-api-key does not count."""
    async with Fleet(1, api_key="k1", speed=50) as fleet, httpx.AsyncClient(base_url=fleet.urls[0]) as client:
        for headers in ({}, {"authorization": "Bearer no"}, {"x-api-key": "k1"}):
            answer = await client.post(CHAT, json=chat("x"), headers=headers)
            assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
        assert (await client.get("/v1/models")).status_code == 401
        for path in ("/health", "/metrics", "/version"):
            assert (await client.get(path)).status_code == 200
        good = await client.post(CHAT, json=chat("x", max_tokens=1), headers={"authorization": "Bearer k1"})
        assert good.status_code == 200


async def test_unknown_fields_are_accepted(client: httpx.AsyncClient) -> None:
    """Fields that vLLM ignores or that change nothing here: 200."""
    fields = {"priority": 3, "cache_salt": "s", "seed": 1, "made_up": {"a": [1]}, "top_p": 0.5, "user": "u"}
    assert (await client.post(CHAT, json=chat("x", max_tokens=1, **fields))).status_code == 200


async def test_the_request_id_is_in_header_and_body(client: httpx.AsyncClient) -> None:
    """As with --enable-request-id-headers; /v1/responses ignores it in the body."""
    for path, body, ident in (
        (CHAT, chat("x", max_tokens=1), "chatcmpl-mine"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 1}, "cmpl-mine"),
        ("/v1/messages", chat("x", max_tokens=1), "chatcmpl-mine"),
    ):
        answer = await client.post(path, json=body, headers={"x-request-id": "mine"})
        assert (answer.headers["x-request-id"], answer.json()["id"]) == ("mine", ident)


async def test_refused_requests_are_counted(fleet: Fleet, client: httpx.AsyncClient) -> None:
    """Seen and refused, neither completed nor aborted."""
    await client.post(CHAT, json={})
    replica = fleet.replica(0)
    assert (replica.requests_seen, replica.refused, replica.completed, replica.aborted) == (1, 1, 0, 0)


async def test_the_openai_sdk_understands_it(fleet: Fleet) -> None:
    """Chat, stream, tools, completions, responses, embeddings and models, through the SDK's own types."""
    message: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}
    async with openai.AsyncOpenAI(base_url=f"{fleet.urls[0]}/v1", api_key="none", max_retries=0) as sdk:
        whole = await sdk.chat.completions.create(model="emulated", messages=[message], max_tokens=20)
        assert whole.choices[0].message.content == expected_text("hello", 20)
        stream = await sdk.chat.completions.create(model="emulated", messages=[message], max_tokens=20, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(pieces) == expected_text("hello", 20)
        text = await sdk.completions.create(model="emulated", prompt="hello", max_tokens=5)
        assert text.choices[0].text == expected_text("hello", 5, path="/v1/completions")
        response = await sdk.responses.create(model="emulated", input="hello", max_output_tokens=20)
        assert response.output_text == expected_text("hello", 20)
        vectors = await sdk.embeddings.create(model="emulated", input=["a", "b"])
        assert len(vectors.data[1].embedding) == 16
        assert [model.id async for model in sdk.models.list()] == ["emulated"]
        with pytest.raises(openai.NotFoundError):
            await sdk.chat.completions.create(model="nope", messages=[message])


async def test_tokenize_and_detokenize_round_trip(client: httpx.AsyncClient) -> None:
    """Text to ids and back; messages go through the chat template, whose length count_tokens also tells."""
    ids = (await client.post("/tokenize", json={"prompt": "Hi 🌍, naïve!"})).json()
    assert ids["count"] == len(ids["tokens"])
    assert (await client.post("/detokenize", json={"tokens": ids["tokens"]})).json() == {"prompt": "Hi 🌍, naïve!"}
    count = (await client.post("/tokenize", json=chat("Hi"))).json()["count"]
    assert (await client.post("/v1/messages/count_tokens", json=chat("Hi"))).json() == {"input_tokens": count}
    assert (await client.post("/detokenize", json={"tokens": [-1]})).status_code == 400
