"""What is needed to go on with an answer elsewhere may be nonsense: the client gets an error event, and at once."""

from typing import Any

import pytest

from tests.http.test_resume import PATIENT, ROLE, asked, told
from tests.peers import LAST, SSE, chunked, scripted, sized
from tests.raw import CHAT, Response, connect
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

BEGUN = SSE + chunked(ROLE, told(b'{"content":"a"}', b"[7]"), told(b'{"content":"b"}', b"[8]"))
NONSENSE: dict[str, bytes] = {
    "a number": b'{"prompt":5}',
    "another object": b'{"text":"ab"}',
    "a list": b"[1]",
    "no JSON": b"<html>",
    "no UTF-8": b'{"prompt":"\xff"}',
    "a deep one": b'{"x":' + b"[" * 100_000,
}


def error_of(response: Response) -> str:
    """What the last event says. The answer before it is what was told, and has no end."""
    *before, last, rest = response.body.split(b"\n\n")
    assert (rest, response.complete, len(before)) == (b"", False, 3)
    assert last.startswith(b'data: {"error":{"message":"')
    return last.decode()


async def failed(harness: Running) -> dict[str, object]:
    (record,) = await harness.settled(1)
    assert record["status"] == 502
    return record


@pytest.mark.parametrize("answer", NONSENSE)
async def test_what_detokenize_answers_is_nonsense(answer: str) -> None:
    """Symptom: the client waited until a time-out gave the attempt up, and a task's exception was never retrieved."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=PATIENT)) as harness:
        async with connect(harness.port) as client:
            client.post(asked(CHAT, "stops", stop=["~~~~~"]))
            call = await peers.call()
            call.send(BEGUN)
            call.close()
            call = await peers.call()
            assert call.target == b"/detokenize"
            call.send(sized(NONSENSE[answer]))
            assert "cannot go on with the answer" in error_of(await client.response())
        assert (await failed(harness))["attempts"] == 2


@pytest.mark.parametrize("field", [{"max_tokens": "60"}, {"min_tokens": 1.0}, {"include_stop_str_in_output": "true"}])
async def test_a_field_of_another_type(field: dict[str, Any]) -> None:
    """vLLM takes a number in quotation marks; what is left of it cannot be told."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=PATIENT)) as harness:
        async with connect(harness.port) as client:
            client.post(asked(CHAT, "quoted", **field))
            call = await peers.call()
            call.send(BEGUN)
            call.close()
            assert "cannot go on with the answer" in error_of(await client.response())
        assert len(peers.calls) == 1
        await failed(harness)


@pytest.mark.parametrize("text", [b"\\q", b"\xff", b"\\ud800"])
@pytest.mark.parametrize("ends", [True, False])
async def test_text_that_is_no_json(text: bytes, ends: bool) -> None:
    """It is handed on as it came. Nobody goes on with it, and an answer that ends with it has ended."""
    async with scripted(2) as peers, running(config_for(peers.urls, resilience=PATIENT)) as harness:
        odd = told(b'{"content":"%b"}' % text, b"[9]")
        end = chunked(told(b'{"content":"c"}', b"[10]", b'"stop"'), b"data: [DONE]\n\n") + LAST
        async with connect(harness.port) as client:
            client.post(asked(CHAT, "odd"))
            call = await peers.call()
            call.send(BEGUN)
            response = await client.head()
            response.chunks = [await client.chunk()]
            call.send(chunked(odd) + (end if ends else b""))
            if not ends:
                call.close()
            rest = await client.rest() if not ends else await client.until(LAST)
            assert odd.replace(b"[9]", b"null") in rest
            assert (b"[DONE]" in rest, b'{"error":' in rest) == (ends, not ends)
        (record,) = await harness.settled(1)
        assert record["status"] == (200 if ends else 502)
        assert len(peers.calls) == 1
