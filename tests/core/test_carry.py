"""What a stream carries, and where an answer under stop strings is cut."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.carry import HALF, Carry, seek_cut

PIECES = st.lists(st.tuples(st.text(max_size=4), st.lists(st.integers(0, 200_000), max_size=3)), max_size=12)


def escaped(text: str) -> bytes:
    return msgspec.json.encode(text)[1:-1]


def filled(pieces: list[tuple[str, list[int]]]) -> Carry:
    carry = Carry(exact=True)
    for text, ids in pieces:
        carry.add(escaped(text), ",".join(map(str, ids)).encode())
    return carry


@given(PIECES)
def test_all_that_was_added(pieces):
    """Text and ids come out as they went in, whatever had to be escaped."""
    carry = filled(pieces)
    assert carry.text == "".join([text for text, _ in pieces])
    assert carry.ids == [token for _, ids in pieces for token in ids]
    assert carry.tokens == len(carry.ids)
    assert carry.events == sum(1 for text, _ in pieces if text)


@given(PIECES)
def test_tokens_behind_the_last_text_are_not_told_yet(pieces):
    """They are half a character, or held back for a stop string."""
    carry = filled(pieces)
    last = max((i for i, (text, _) in enumerate(pieces) if text), default=-1)
    assert carry.with_text == sum(len(ids) for _, ids in pieces[: last + 1])


@given(PIECES, st.integers(0, 40))
def test_a_cut_drops_what_will_be_told_anew(pieces, kept):
    """The ids behind the cut go, the text that the client has stays."""
    carry = filled(pieces)
    ids, text = carry.ids, carry.text
    carry.cut(kept)
    assert (carry.ids, carry.with_text, carry.text) == (ids[:kept], len(ids[:kept]), text)


def test_when_another_replica_can_go_on():
    """Once the prompt's ids are known, and unless something was lost; by text there are no ids to wait for."""
    carry = Carry(exact=True)
    assert not carry.ready
    carry.sample = b"{}"
    assert not carry.ready
    carry.prompt = b"[1,2]"
    assert carry.ready
    assert carry.prompt_ids == [1, 2]
    carry.lost = True
    assert not carry.ready
    by_text = Carry(exact=False)
    by_text.sample = b"{}"
    assert by_text.ready


def cut(told: str, tokens: list[bytes], held: int) -> tuple[int, int, int]:
    """What the search finds where the first tokens' text is asked for, and how often it asked."""
    search = seek_cut(told, len(tokens), held)
    asked = 0
    try:
        wanted = next(search)
        while True:
            asked += 1
            wanted = search.send(b"".join(tokens[:wanted]).decode("utf-8", "replace"))
    except StopIteration as found:
        return *found.value, asked


@given(
    st.lists(st.sampled_from([b" a", b"aa", b" b", b"\xf0\x9f", b"\x98\x80", b"\xe6\x9d\xb1", b""]), max_size=60),
    st.integers(0, 12),
    st.integers(0, 8),
)
def test_the_cut_is_the_last_one_that_fits(tokens, back, held):
    """As many ids as possible whose text the client has, none of it half a character, the rest of its text counted."""
    whole = b"".join(tokens).decode("utf-8", "replace")
    told = whole[: max(0, len(whole) - back)].rstrip(HALF)
    kept, skip, asked = cut(told, tokens, held)
    texts = [b"".join(tokens[:count]).decode("utf-8", "replace") for count in range(len(tokens) + 1)]
    fitting = [count for count, text in enumerate(texts) if told.startswith(text) and not text.endswith(HALF)]
    assert kept == max(fitting)
    assert skip == len(told) - len(texts[kept])
    assert asked <= 16
