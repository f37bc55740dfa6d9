"""The relay over real sockets: the OpenAI SDK's view of it."""

import openai
import pytest

from gateway.emulator.fleet import Fleet
from tests.running import config_for, running

pytestmark = pytest.mark.anyio


async def test_a_streamed_chat_arrives_whole() -> None:
    """The SDK's stream gives the text that the replica gives without a gateway."""
    async with Fleet(2, speed=20) as fleet, running(config_for(fleet.urls)) as harness:
        ask = {"model": "emulated", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20}
        texts = []
        for base in (harness.url, fleet.urls[0]):
            async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="unused") as client:
                stream = await client.chat.completions.create(stream=True, **ask)
                texts.append("".join([chunk.choices[0].delta.content or "" async for chunk in stream]))
        assert texts[0] == texts[1] != ""
        (record,) = await harness.settled(1)
        assert record["completion_tokens"] == 20
