"""/v1/audio/*: transcriptions and translations from multipart bodies, speech from JSON. Pure."""

import struct
from dataclasses import replace

import msgspec
import xxhash

from gateway.emulator import tokens
from gateway.emulator.bodies import read
from gateway.emulator.prompts import Ask, Served
from gateway.emulator.refusals import bad_value, invalid
from gateway.emulator.shapes import Json, Shape, data
from gateway.emulator.text import Limits

_BYTES_A_TOKEN = 640
"""16 kHz 16-bit mono sound gives a Whisper-like encoder 50 tokens a second."""


class SpeechBody(msgspec.Struct):
    input: str
    model: str | None = None
    voice: str | None = None


class Transcript(Shape):
    """The text of a sound file; `translation` names the object of its events."""

    def __init__(self, ask: Ask, ident: str, created: int, kind: str, form: str) -> None:
        super().__init__(ask, ident, created)
        self._kind = kind
        self._plain = form == "text"
        self.content_type = "text/plain; charset=utf-8" if self._plain else "application/json"

    def event(self, index: int, start: int, stop: int) -> bytes:
        finish = self.finish(index, stop)
        choice: Json = {
            "delta": {"content": self.text(index, start, stop)},
            "finish_reason": finish,
            "stop_reason": None,
        }
        return data(self._chunk([choice]))

    def _chunk(self, choices: list[Json]) -> Json:
        return {
            "id": f"trsc-{self.ident}",
            "object": f"{self._kind}.chunk",
            "created": self.created,
            "model": self.ask.model,
            "choices": choices,
        }

    def whole(self) -> bytes:
        text = self.answers[0].text
        if self._plain:
            return text.encode()
        seconds = max(1, self.ask.prompt_tokens // 50)
        return msgspec.json.encode({"text": text, "usage": {"type": "duration", "seconds": seconds}})


class Speech(Shape):
    """A WAV file whose samples depend on the text alone."""

    content_type = "audio/wav"

    def whole(self) -> bytes:
        seed = xxhash.xxh3_128_digest(tokens.id_bytes(self.ask.prompts[0]))
        samples = seed * (200 * len(self.ask.prompts[0]))
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
        body = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
        return struct.pack("<4sI", b"RIFF", len(body)) + body


def transcript(path: str, raw: bytes, content_type: str, served: Served, ident: str, created: int) -> Transcript:
    """The shape that answers this multipart body."""
    fields = multipart(raw, content_type)
    if "file" not in fields:
        raise invalid("Field required: file", "file")
    sound = fields["file"]
    model = served.check(fields["model"].decode() if "model" in fields else None)
    size = max(8, min(len(sound) // _BYTES_A_TOKEN, served.max_model_len // 2))
    prompt = (tokens.IMAGE, *(xxhash.xxh3_128_digest(sound) * (size // 16 + 1))[:size], tokens.ASSISTANT)
    form = fields.get("response_format", b"json").decode()
    if form not in ("json", "text", "verbose_json"):
        raise bad_value("Currently only support response_format: json, text, verbose_json", "response_format")
    stream = fields.get("stream", b"false").lower() in (b"true", b"1")
    ask = replace(Ask(model, (prompt,), Limits(max_tokens=64)), stream=stream)
    return Transcript(ask, ident, created, "translation" if path.endswith("translations") else "transcription", form)


def speech(raw: bytes, served: Served, ident: str, created: int) -> Speech:
    """The shape that answers this JSON body."""
    body = read(raw, SpeechBody)
    prompt = tokens.encode(body.input)
    if not prompt:
        raise bad_value("Input text cannot be empty", "input")
    return Speech(Ask(served.check(body.model), (prompt,), Limits(max_tokens=1), ignore_eos=True), ident, created)


def multipart(raw: bytes, content_type: str) -> dict[str, bytes]:
    """The fields of a multipart/form-data body by name; the last of equal names wins."""
    kind, _, parameters = content_type.partition(";")
    boundary = parameters.partition("boundary=")[2].partition(";")[0].strip().strip('"')
    if kind.strip().lower() != "multipart/form-data" or not boundary:
        raise invalid("Input should be multipart/form-data", None)
    fields: dict[str, bytes] = {}
    for part in (b"\r\n" + raw).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode("utf-8", "replace")
        fields[name] = value
    return fields
