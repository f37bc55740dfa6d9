from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_embeddings_depend_on_the_text_alone(client: httpx.AsyncClient) -> None:
    """One vector a text, equal for equal texts; usage counts their tokens."""
    body = await post(client, "/v1/embeddings", input=["a river", "a bridge", "a river"])
    one, other, again = (entry["embedding"] for entry in body["data"])
    assert one == again != other
    assert body["usage"]["completion_tokens"] == 0
    assert len((await post(client, "/v1/embeddings", input="x", dimensions=8))["data"][0]["embedding"]) == 8


@pytest.mark.parametrize(("path", "key"), [("/pooling", "data"), ("/classify", "probs")])
async def test_pooling_and_classification(client: httpx.AsyncClient, path: str, key: str) -> None:
    """One entry a text."""
    assert len((await post(client, path, input=["a", "b"]))["data"][1][key]) >= 2


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
async def test_scores(client: httpx.AsyncClient, path: str) -> None:
    """One text against many gives as many scores; unequal lists are refused."""
    assert len((await post(client, path, text_1="a", text_2=["b", "c"]))["data"]) == 2
    assert (await client.post(path, json={"text_1": ["a", "b"], "text_2": ["c"] * 3})).status_code == 400


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_reranking(client: httpx.AsyncClient, path: str) -> None:
    """Best first, as many as asked for, each with its place in the request."""
    documents = [f"document {number}" for number in range(5)]
    results = (await post(client, path, query="q", documents=documents, top_n=3))["results"]
    scores = [result["relevance_score"] for result in results]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert all(documents[result["index"]] == result["document"]["text"] for result in results)
