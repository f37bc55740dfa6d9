"""LangChain's `ChatOpenAI`, as agents and retrieval programs use it."""

from typing import Any

import pytest

from gateway.emulator.expected import expected_text
from tests.clients.conftest import HELLO, WEATHER

langchain_openai = pytest.importorskip("langchain_openai", reason="no langchain-openai: `make clients`")

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

TEXT = expected_text(HELLO, 20)


@pytest.fixture
def model(api_url: str) -> Any:
    return langchain_openai.ChatOpenAI(
        base_url=api_url, api_key="unused", model="emulated", max_tokens=20, max_retries=0, timeout=30
    )


def test_a_chat_and_its_stream(model: Any) -> None:
    """The same text, with its usage; the stream comes in pieces that add up."""
    answer = model.invoke(HELLO)
    assert answer.content == TEXT
    assert answer.usage_metadata["output_tokens"] == 20
    chunks = list(model.stream(HELLO))
    assert len(chunks) > 2
    assert "".join(chunk.content for chunk in chunks) == TEXT


async def test_an_async_stream(model: Any) -> None:
    """`astream` gives the same, with the usage at its end when it is asked for."""
    chunks = [chunk async for chunk in model.astream(HELLO, stream_usage=True)]
    assert "".join(chunk.content for chunk in chunks) == TEXT
    assert [chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata] == [20]


def test_a_batch(model: Any) -> None:
    """Several at once, by threads, each with its own answer."""
    prompts = [f"{HELLO} {i}" for i in range(6)]
    assert [answer.content for answer in model.batch(prompts)] == [expected_text(prompt, 20) for prompt in prompts]


def test_a_streamed_tool_call(model: Any) -> None:
    """An agent's tool call comes together from its pieces."""
    with_tool = model.bind_tools([WEATHER], tool_choice="required").bind(max_tokens=200)
    first, *rest = with_tool.stream(HELLO)
    for chunk in rest:
        first += chunk
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "river stone", "days": 7})


def test_the_responses_api(api_url: str) -> None:
    """LangChain speaks the newer API, too."""
    model = langchain_openai.ChatOpenAI(
        base_url=api_url, api_key="unused", model="emulated", use_responses_api=True, max_retries=0
    )
    text = "".join(chunk.text for chunk in model.stream(HELLO))
    assert text != ""
    assert text == model.invoke(HELLO).text


def test_embeddings(api_url: str) -> None:
    """What a retrieval program fills its index with."""
    embeddings = langchain_openai.OpenAIEmbeddings(
        base_url=api_url, api_key="unused", model="emulated", check_embedding_ctx_length=False, max_retries=0
    )
    one, two = embeddings.embed_documents(["one", "two"])
    assert one == embeddings.embed_query("one") != two
