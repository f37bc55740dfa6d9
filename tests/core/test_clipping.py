"""Of a prompt of many megabytes as much is read as is hashed, and what is read is its beginning."""

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.clipping import LONG_BYTES, clipped, clipped_ids, clipped_text
from gateway.core.prefix import BLOCK_BYTES
from tests.core.asked import facts_of

TEXT = "The quick brown fox jumps over the lazy dog. " * 60_000
"""2.7 MB."""
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 2 * LONG_BYTES}"}}


def raw(value: object, *, ascii_only: bool = False) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, ensure_ascii=ascii_only).encode())


texts = st.text(st.sampled_from('ab"\\/\n\t éß€漢😀') | st.characters(exclude_categories=("Cs",)), max_size=40)


@given(texts, st.integers(0, 200), st.booleans())
@example("\\" * 30, 20, True)
@example("😀" * 9, 40, True)
def test_a_cut_text_is_a_beginning(text: str, room: int, ascii_only: bool) -> None:
    """Wherever it is cut, it is JSON, no longer than the room, and little is lost of the room."""
    whole = raw(text, ascii_only=ascii_only)
    part, left_out = clipped_text(whole, room)
    assert text.startswith(msgspec.json.decode(part))
    assert len(part) + left_out == len(whole)
    if left_out:
        assert room - 14 <= len(part) <= max(2, room)
    else:
        assert len(whole) <= room or text == ""


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": TEXT}],
        [{"role": "user", "content": TEXT.replace("e", "é")}],
        [{"role": "user", "content": [{"type": "text", "text": TEXT}, PICTURE]}],
        [{"role": "user", "content": TEXT[:90_000]} for _ in range(30)],
    ],
)
def test_a_longer_prompt_goes_on_where_a_short_one_ends(messages: list[dict[str, object]], ascii_only: bool) -> None:
    """A long prompt's blocks begin with those of a prompt that is short enough to be read whole, and begins it."""
    content = messages[0]["content"]
    start = content if isinstance(content, str) else content[0]["text"]  # type: ignore[index]
    short = facts_of({"model": "m", "messages": [{"role": "user", "content": start[:50_000]}]})
    body = json.dumps({"model": "m", "stream": True, "messages": messages}, ensure_ascii=ascii_only).encode()
    long = facts_of(body)
    assert len(short.blocks) > 90
    assert long.blocks[: len(short.blocks)] == short.blocks
    assert LONG_BYTES / 4 < len(long.blocks) * BLOCK_BYTES <= LONG_BYTES
    assert long.blocks_with("a reply") == long.blocks
    assert long.prompt_bytes == 0


def test_the_estimate_is_that_of_the_whole() -> None:
    """And a picture counts as a picture, however long its address."""
    for content in (TEXT, [{"type": "text", "text": TEXT}], [TEXT]):
        assert facts_of({"messages": [{"role": "user", "content": content}]}).prompt_tokens == pytest.approx(
            len(TEXT) / 4, rel=0.01
        )
    many = [{"role": "user", "content": TEXT[:2000]}, {"role": "tool", "content": [{"type": "text", "text": "x"}]}]
    assert facts_of({"messages": many * 1000}).prompt_tokens == pytest.approx(500_000, rel=0.02)
    seen = facts_of({"messages": [{"role": "user", "content": [PICTURE, {"type": "text", "text": "What is it?"}]}]})
    assert 1000 < seen.prompt_tokens < 1100


@pytest.mark.parametrize(
    ("path", "field"), [(b"/v1/completions", "prompt"), (b"/v1/responses", "input"), (b"/v1/embeddings", "input")]
)
def test_other_long_prompts(path: bytes, field: str) -> None:
    short, long = (facts_of({field: TEXT[:size]}, path) for size in (50_000, len(TEXT)))
    assert long.blocks[: len(short.blocks)] == short.blocks != ()
    assert long.prompt_tokens == pytest.approx(len(TEXT) / 4, rel=0.01)


def test_long_lists_of_ids() -> None:
    """Their number is guessed from those that are read."""
    ids = [1000 + number % 9000 for number in range(500_000)]
    short, long = (facts_of({"prompt": ids[:size]}, b"/v1/completions") for size in (1280, len(ids)))
    assert long.blocks[:10] == short.blocks
    assert len(long.blocks) > 1000
    assert long.prompt_tokens == pytest.approx(len(ids), rel=0.01)
    nested = raw([ids])
    assert clipped_ids(nested) == (nested, 0)


def test_a_long_prompt_can_be_resumed_as_a_short_one_can() -> None:
    """Text can, pictures cannot, also where they come behind the cut."""
    text = {"type": "text", "text": TEXT}
    for content, can in ((TEXT, True), ([text], True), ([PICTURE], False), ([text, PICTURE], False)):
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": content}]}
        assert facts_of(body).resumable is can


def test_what_is_no_text_is_kept() -> None:
    odd = raw({"a": "b" * 100})
    assert clipped(odd, 10) == (odd, 0)
    assert clipped(None, 10) == (None, 0)
