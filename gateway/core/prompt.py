"""A prompt as canonical bytes: two requests share leading bytes as far as a replica's chat template gives them the same
beginning, however their JSON was spelt.

Nothing here refuses a request: what cannot be read as text enters by its raw JSON, and the replica may say no.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import xxhash

from gateway.core.decoding import UNREADABLE
from gateway.core.prefix import MAX_HASHED_BYTES

ID_BYTES = 4
"""A token id as bytes: a block of them is 128 tokens, exactly."""

MEDIA_BYTES = 4096
"""How many bytes an image or a sound stands for, by repeating its digest: a thousand tokens, about what vision models
spend on a picture. Its own bytes say nothing about tokens."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`head`: what the prompts of one application share, empty if that is not known. `text`: the whole, or as much of
    it as is hashed. `left_out`: about how many bytes it goes on. `tokens`: of all, where ids tell it."""

    head: bytes = b""
    text: bytes = b""
    tokens: int | None = None
    left_out: int = 0


class _Media(msgspec.Struct):
    url: str | None = None
    data: str | None = None


class _Part(msgspec.Struct):
    """OpenAI's and Anthropic's content parts, as far as they are text or have a URL or data."""

    text: str | None = None
    image_url: str | _Media | None = None
    video_url: str | _Media | None = None
    audio_url: str | _Media | None = None
    input_audio: str | _Media | None = None
    source: str | _Media | None = None


_content: msgspec.json.Decoder[str | list[msgspec.Raw] | None] = msgspec.json.Decoder(str | list[msgspec.Raw] | None)
_part: msgspec.json.Decoder[str | _Part] = msgspec.json.Decoder(str | _Part)
_prompts = msgspec.json.Decoder(str | list[str | int | list[int]] | None)
_any = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def said(content: msgspec.Raw | str | list[msgspec.Raw] | None) -> bytes:
    """A message's content as bytes: text as UTF-8, images by a digest, none for null and empty content."""
    if isinstance(content, str):
        return content.encode()
    if not content:
        return b""
    if isinstance(content, list):
        return b"\n".join([_part_bytes(part) for part in content])
    try:
        return said(_content.decode(content))
    except UNREADABLE:
        return bytes(content)


def _part_bytes(raw: msgspec.Raw) -> bytes:
    try:
        part = _part.decode(raw)
    except UNREADABLE:
        return bytes(raw)
    if isinstance(part, str):
        return part.encode()
    if part.text is not None:
        return part.text.encode()
    media = part.image_url or part.video_url or part.audio_url or part.input_audio or part.source
    address = (media.url or media.data) if isinstance(media, _Media) else media
    if not address:
        return bytes(raw)
    digest = xxhash.xxh3_128_digest(address.encode())
    return digest * (MEDIA_BYTES // len(digest))


def plain_json(raw: msgspec.Raw) -> bytes:
    """JSON without regard to white space and escapes, up to a megabyte; none for null and empty values."""
    if not raw:
        return b""
    if len(raw) > MAX_HASHED_BYTES:
        return bytes(raw)  # to spell it anew takes long
    try:
        value: object = _any.decode(raw)
    except UNREADABLE:
        return bytes(raw)
    return _encoder.encode(value) if value else b""


def conversation(turns: Iterable[tuple[str, bytes]], *, tools: bytes, head: bytes, left_out: int = 0) -> Prompt:
    """Tools, then each turn's role and what it says, in order: as chat templates do. A turn has no end mark, so that
    the prompt of the next turn begins with this one's, reply included."""
    pieces = [tools]
    for role, text in turns:  # as `turn_bytes`, without copying each text twice
        pieces += (b"\0", role.encode(), b"\0", text)
    return Prompt(head, b"".join(pieces), left_out=left_out)


def turn_bytes(role: str, text: bytes) -> bytes:
    return b"\0%b\0%b" % (role.encode(), text)


def completion(raw: msgspec.Raw, *, head_bytes: int, left_out: int = 0) -> Prompt:
    """A prompt, or several in a row: text or token ids. Its first `head_bytes` are its head; so much was cut off."""
    if not raw:
        return Prompt()
    try:
        value: Any = _prompts.decode(raw)
        if isinstance(value, list) and value:
            return _several(value, head_bytes, left_out)
        text = value.encode() if isinstance(value, str) else b""
    except (*UNREADABLE, OverflowError, TypeError):  # ids out of any vocabulary, or a mixture
        text = bytes(raw)
    return Prompt(text[:head_bytes], text, left_out=left_out)


def _several(value: Any, head_bytes: int, left_out: int) -> Prompt:
    """A list of ids, of lists of ids, or of texts. Raises `TypeError` for a mixture, `OverflowError` for wild ids."""
    if isinstance(value[0], int):
        text = array("I", value).tobytes()
        return Prompt(text[:head_bytes], text, len(value) + left_out // ID_BYTES, left_out)
    if isinstance(value[0], list):
        text = b"".join([array("I", ids).tobytes() for ids in value])
        return Prompt(text[:head_bytes], text, len(text) // ID_BYTES)
    text = "\0".join(value).encode()
    return Prompt(text[:head_bytes], text)
