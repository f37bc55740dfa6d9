"""Contents of messages as bytes."""

import json

import msgspec
import pytest

from gateway.core.prompt import MEDIA_BYTES, completion, conversation, plain_json, said


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


@pytest.mark.parametrize("nothing", [None, "", []])
def test_nothing_said_is_no_bytes(nothing: object) -> None:
    """Null, an empty text and no parts are the same."""
    assert said(raw(nothing)) == b""
    assert said(msgspec.Raw()) == b""
    assert plain_json(raw(nothing)) == b""
    assert completion(raw(nothing), head_bytes=8).text == b""


def test_text_parts_are_joined_as_vllm_joins_them() -> None:
    """Parts may be objects of any text type, or plain texts."""
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "é"}, "c"]
    assert said(raw(parts)) == "a\né\nc".encode()


IMAGES = [
    {"type": "image_url", "image_url": {"url": "https://example.test/a.png", "detail": "low"}},
    {"type": "input_image", "image_url": "https://example.test/a.png"},
    {"type": "image", "source": {"type": "url", "url": "https://example.test/a.png"}},
    {"type": "image", "source": {"type": "base64", "media_type": "x", "data": "https://example.test/a.png"}},
    {"type": "video_url", "video_url": {"url": "https://example.test/a.png"}},
    {"type": "audio_url", "audio_url": {"url": "https://example.test/a.png"}},
    {"type": "input_audio", "input_audio": {"data": "https://example.test/a.png", "format": "wav"}},
]


@pytest.mark.parametrize("image", IMAGES)
def test_media_enter_by_their_digest(image: object) -> None:
    """The same URL or data is the same bytes, of a length that stands for tokens, not for pixels."""
    assert said(raw([image])) == said(raw([IMAGES[0]]))
    assert len(said(raw([image]))) == MEDIA_BYTES
    other = json.loads(json.dumps(image).replace("a.png", "b.png"))
    assert said(raw([other])) != said(raw([image]))


@pytest.mark.parametrize(
    "part", [{"type": "new", "x": 1}, 3, None, {"text": 3}, {"image_url": 1}, {"image_url": {}}, ["a"]]
)
def test_what_is_not_known_enters_by_its_json(part: object) -> None:
    """A part of a type that did not exist yet is no reason to refuse, nor to forget it."""
    assert said(raw([part])) == json.dumps(part).encode()


@pytest.mark.parametrize("content", [b"3", b"true", b'{"a":1}', b'"\\ud800"'])
def test_content_of_another_type_enters_by_its_json(content: bytes) -> None:
    """The replica may refuse it; the gateway need not."""
    assert said(msgspec.Raw(content)) == content


@pytest.mark.parametrize(
    ("prompt", "text", "tokens"),
    [
        ("ab", b"ab", None),
        (["ab", "c"], b"ab\0c", None),
        ([1, 256], b"\1\0\0\0\0\1\0\0", 2),
        ([[1], [256]], b"\1\0\0\0\0\1\0\0", 2),
        ([1, "a"], b'[1, "a"]', None),
        (["a", 1], b'["a", 1]', None),
        ([[1], "a"], b'[[1], "a"]', None),
        ([-1], b"[-1]", None),
        ({"a": 1}, b'{"a": 1}', None),
    ],
)
def test_prompts_are_texts_or_ids(prompt: object, text: bytes, tokens: int | None) -> None:
    """Ids are counted; whatever is neither enters by its JSON."""
    read = completion(raw(prompt), head_bytes=2)
    assert (read.text, read.tokens, read.head) == (text, tokens, text[:2])


def test_plain_json_has_one_spelling() -> None:
    """Order stays, as the template keeps it; white space and escapes go. What cannot be read stays as it is."""
    assert plain_json(msgspec.Raw(b'[ {"b" : "\\u00e9", "a":1} ]')) == '[{"b":"é","a":1}]'.encode()
    assert plain_json(msgspec.Raw(b'["\\ud800"]')) == b'["\\ud800"]'


def test_turns_are_told_apart() -> None:
    """Who says it matters, and where one ends."""
    texts = [conversation(turns, tools=b"", head=b"").text for turns in ([("a", b"bc")], [("ab", b"c")], [("a", b"b")])]
    assert len(set(texts)) == 3
