"""Prompts that are no everyday prompts: routed like any other, byte for byte, or refused in words."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.prefix import BLOCK_BYTES, MAX_HASHED_BYTES
from tests.peers import Peers, scripted, sized
from tests.raw import CHAT, Response, connect
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

TEN_MB = 10_000_000
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo=" * 20_000}}


@pytest.fixture(scope="module")
async def bench() -> AsyncIterator[tuple[Peers, Running]]:
    """One gateway with two replicas that answer everything."""
    async with scripted(2) as peers, running(config_for(peers.urls, policy="prefix")) as harness:
        peers.answer = lambda call: call.send(sized(b"{}"))
        yield peers, harness


async def ask(harness: Running, body: bytes, path: str = CHAT) -> Response:
    async with connect(harness.port) as client:
        return await client.ask(body, path)


async def routed(bench: tuple[Peers, Running], body: bytes, path: str = CHAT) -> tuple[Response, Response]:
    """The answers to the same request, asked twice; the replica had its very bytes both times."""
    peers, harness = bench
    answers = await ask(harness, body, path), await ask(harness, body, path)
    assert [answer.status for answer in answers] == [200, 200]
    assert [call.body == body for call in peers.calls[-2:]] == [True, True]
    assert harness.gateway.books.total_in_flight() == 0
    return answers


def chat(messages: list[dict[str, Any]], **fields: Any) -> bytes:
    return json.dumps({"model": "emulated", "messages": messages, **fields}).encode()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (chat([]), CHAT),
        (chat([{"role": "user", "content": ""}]), CHAT),
        (chat([{"role": "user", "content": None}]), CHAT),
        (chat([{"role": "user"}]), CHAT),
        (chat([{"role": "user", "content": []}]), CHAT),
        (b'{"model":"emulated"}', "/v1/completions"),
        (b'{"model":"emulated","prompt":""}', "/v1/completions"),
        (b'{"model":"emulated","prompt":[]}', "/v1/completions"),
        (b'{"model":"emulated","input":[]}', "/v1/responses"),
        (b'{"model":"emulated","input":[]}', "/v1/embeddings"),
    ],
)
async def test_a_prompt_that_says_nothing(bench: tuple[Peers, Running], body: bytes, path: str) -> None:
    """Whether that is a mistake is the replica's to say: it goes to the least busy one."""
    for answer in await routed(bench, body, path):
        assert answer.header("x-gateway-reason") == "load"


async def test_only_images(bench: tuple[Peers, Running]) -> None:
    """An image counts by what it is: the same ones are found again, others are another prompt."""
    first, second = await routed(bench, chat([{"role": "user", "content": [IMAGE] * 20}]))
    assert second.header("x-gateway-reason") == "prefix"
    assert second.header("x-gateway-replica") == first.header("x-gateway-replica")
    other = IMAGE | {"image_url": {"url": "http://pictures/1.png"}}
    assert (await routed(bench, chat([{"role": "user", "content": [other]}])))[0].header("x-gateway-reason") == "load"


@pytest.mark.parametrize("text", ["a story without an end ", "line\n", "größer ", "日本"])
async def test_ten_megabytes_of_text(bench: tuple[Peers, Running], text: str) -> None:
    """Found again by its first megabyte; what lies behind that costs no memory in the index."""
    _, harness = bench
    before = len(harness.gateway.index)
    size = len(json.dumps(text)) - 2
    _, second = await routed(bench, chat([{"role": "user", "content": text * (TEN_MB // size)}]))
    assert second.header("x-gateway-reason") == "prefix"
    assert len(harness.gateway.index) - before <= MAX_HASHED_BYTES // BLOCK_BYTES


async def test_ten_thousand_messages(bench: tuple[Peers, Running]) -> None:
    """A long conversation is a prompt like any other, and its next turn finds it."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": f"message number {i}"} for i in range(10_000)]
    first, second = await routed(bench, chat(messages))
    following, _ = await routed(bench, chat([*messages, {"role": "user", "content": "and on"}]))
    assert (second.header("x-gateway-reason"), following.header("x-gateway-reason")) == ("prefix", "prefix")
    assert following.header("x-gateway-replica") == first.header("x-gateway-replica")


async def test_a_million_token_ids(bench: tuple[Peers, Running]) -> None:
    """A prompt of ids is found again too."""
    body = json.dumps({"model": "emulated", "prompt": list(range(100_000, 1_100_000))}).encode()
    _, second = await routed(bench, body, "/v1/completions")
    assert second.header("x-gateway-reason") == "prefix"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (rb'{"model":"emulated","messages":[{"role":"user","content":"a\ud800b"}]}', CHAT),
        (rb'{"model":"emulated","messages":[{"role":"user","content":[{"type":"text","text":"\uDFFF"}]}]}', CHAT),
        (rb'{"model":"emulated","messages":[{"role":"\ud800","content":"a"}]}', CHAT),
        (rb'{"model":"\udfff","messages":[]}', CHAT),
        (rb'{"model":"emulated","messages":[],"tools":["\ud800\ud800"]}', CHAT),
        (rb'{"model":"emulated","prompt":"\ud83d"}', "/v1/completions"),
        (rb'{"model":"emulated","input":["\ud83d "]}', "/v1/embeddings"),
    ],
)
async def test_half_of_a_surrogate_pair(bench: tuple[Peers, Running], body: bytes, path: str) -> None:
    """No character, and so no JSON text: 400 that says it, and no replica hears of it."""
    peers, harness = bench
    before = len(peers.calls)
    answer = await ask(harness, body, path)
    assert answer.status == 400
    assert answer.error["message"].endswith("is there half of a surrogate pair in it?")
    assert len(peers.calls) == before


@pytest.mark.parametrize(
    "content", [rb'"\ud83d\ude00"', b'"\xff\xfe"', b'"\xed\xa0\x80"', rb'"\u0000"', rb'"\\ud800"'], ids=repr
)
async def test_what_is_strange_and_still_text(bench: tuple[Peers, Running], content: bytes) -> None:
    """Whole pairs, and bytes that are no UTF-8 within a text, which the gateway has no need to read: passed on."""
    await routed(bench, b'{"model":"emulated","messages":[{"role":"user","content":%b}]}' % content)
