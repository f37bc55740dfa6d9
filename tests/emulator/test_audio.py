import httpx
import pytest

from tests.emulator.peer import events

pytestmark = pytest.mark.anyio
SOUND = {"file": ("a.wav", b"RIFF" + bytes(9000), "audio/wav")}


@pytest.mark.parametrize("kind", ["transcription", "translation"])
async def test_text_of_a_sound(client: httpx.AsyncClient, kind: str) -> None:
    """Equal files give equal texts, as JSON, as plain text and as a stream."""
    path = f"/v1/audio/{kind}s"
    text = (await client.post(path, files=SOUND, data={"model": "emulated"})).json()["text"]
    assert (await client.post(path, files=SOUND, data={"response_format": "text"})).text == text
    streamed = await client.post(path, files=SOUND, data={"stream": "true"})
    assert "".join(event["choices"][0]["delta"]["content"] for event in events(streamed)) == text
    assert events(streamed)[0]["object"] == f"{kind}.chunk"
    assert streamed.text.endswith("data: [DONE]\n\n")


async def test_refusals(client: httpx.AsyncClient) -> None:
    """No file, no multipart, another model, another format."""
    path = "/v1/audio/transcriptions"
    assert (await client.post(path, json={})).status_code == 400
    assert (await client.post(path, files={"other": b"x"})).status_code == 400
    assert (await client.post(path, files=SOUND, data={"model": "nope"})).status_code == 404
    assert (await client.post(path, files=SOUND, data={"response_format": "srt9"})).status_code == 400


async def test_speech_is_a_wav_file(client: httpx.AsyncClient) -> None:
    """Binary, and the same for the same text."""
    answers = [await client.post("/v1/audio/speech", json={"input": "hello", "voice": "v"}) for _ in range(2)]
    assert answers[0].headers["content-type"] == "audio/wav"
    assert answers[0].content[:4] == b"RIFF"
    assert answers[0].content == answers[1].content
    assert (await client.post("/v1/audio/speech", json={"input": ""})).status_code == 400
