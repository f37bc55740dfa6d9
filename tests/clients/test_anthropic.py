"""Anthropic's SDK, whose Messages API vLLM serves too: what agents for coding speak."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.conftest import HELLO

anthropic = pytest.importorskip("anthropic", reason="no anthropic: `make clients`")

pytestmark = pytest.mark.slow

ASK: dict[str, Any] = {"model": "emulated", "max_tokens": 20, "messages": [{"role": "user", "content": HELLO}]}


@pytest.fixture
def sdk(api_url: str) -> Iterator[Any]:
    base = api_url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base, api_key="unused", max_retries=0, timeout=30) as client:
        yield client


def test_a_message_and_its_stream(sdk: Any) -> None:
    """The stream's helper adds up to the same message, with its usage."""
    answer = sdk.messages.create(**ASK)
    with sdk.messages.stream(**ASK) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 2
    assert "".join(pieces) == final.content[0].text == answer.content[0].text
    assert final.usage.output_tokens == answer.usage.output_tokens == 20
    assert final.stop_reason == answer.stop_reason == "max_tokens"


def test_a_count_of_tokens(sdk: Any) -> None:
    """Is asked before a long prompt is sent."""
    assert sdk.messages.count_tokens(model="emulated", messages=ASK["messages"]).input_tokens > 0


def test_an_unknown_model(sdk: Any) -> None:
    """The SDK's own class of error."""
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.create(**ASK | {"model": "none"})
