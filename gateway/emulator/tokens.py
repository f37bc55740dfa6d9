"""A reversible tokenizer without a vocabulary file: about four bytes of English a token, any text and back.

Ids: 0–255 single bytes; from 256 the words below; from 1000 markers without text; from 1024 pieces of 2 to 4 bytes.
A piece may end inside a UTF-8 character, as a real byte-level tokenizer's may.
"""

import re
from array import array
from collections.abc import Sequence
from functools import lru_cache

import xxhash

_COMMON = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you
were all her she there would their we him been has when who will no more if out so up said what its about than into them
can only other time new some could these two may first then do any like my now over such our man me even most made after
also did many off before must well back through years where much your way down should because long each just state those
people too little good very make world still see own work men here get both between life being under never day same
another know while last might us great old year come since go river stone light winter engine garden copper signal
harbour morning letter window silver bridge forest shadow
"""
_OTHERS = (
    ",",
    ".",
    ".\n",
    ":",
    ";",
    " —",
    " naïve",
    " café",
    " Ελλάδα",
    " мир",
    " 日本",
    " 東京",
    " größer",
    " ☃",
    " ∑",
)

WORDS: tuple[str, ...] = (*(f" {word}" for word in _COMMON.split()), *_OTHERS)
"""Tokens that an answer is made of; those at the end include text of two and three bytes a character."""

FIRST_WORD = 256
SENTENCE_END = FIRST_WORD + WORDS.index(".\n")
BOS, SYSTEM, USER, ASSISTANT, TOOL, TURN_END, IMAGE, EOS = range(1000, 1008)
MARKERS = {"system": SYSTEM, "developer": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}
_OFFSETS = {2: 1024, 3: 1024 + (1 << 16), 4: 1024 + (1 << 16) + (1 << 24)}
VOCABULARY = _OFFSETS[4] + (1 << 32)
_PIECE = re.compile(r"\.\n|[,.:;]| [—☃∑]|[\U0001F000-\U0001FFFF]| ?\w+| ?[^\w\s]+|\s+")
# First what an answer is made of, each for itself: an answer's text has the answer's ids again in the next turn.
_WORD_IDS = {word: FIRST_WORD + index for index, word in enumerate(WORDS)}


def pack(piece: bytes) -> int:
    """The id of a piece of one to four bytes."""
    return piece[0] if len(piece) == 1 else _OFFSETS[len(piece)] + int.from_bytes(piece, "big")


def token_bytes(token: int) -> bytes:
    """What the token stands for; markers and ids that do not exist stand for nothing."""
    if token < FIRST_WORD:
        return bytes((token,)) if token >= 0 else b""
    if token < FIRST_WORD + len(WORDS):
        return WORDS[token - FIRST_WORD].encode()
    if token < _OFFSETS[2] or token >= VOCABULARY:
        return b""
    size = 4 if token >= _OFFSETS[4] else 3 if token >= _OFFSETS[3] else 2
    return (token - _OFFSETS[size]).to_bytes(size, "big")


@lru_cache(maxsize=65536)
def _encode_piece(piece: str) -> tuple[int, ...]:
    if piece in _WORD_IDS:
        return (_WORD_IDS[piece],)
    raw = piece.encode("utf-8", "replace")
    if raw.startswith(b"\xf0\x9f") and len(raw) == 4:
        return (pack(raw[:2]), pack(raw[2:]))  # an emoji is two ids, as it is in an answer
    return tuple(pack(raw[at : at + 4]) for at in range(0, len(raw), 4))


@lru_cache(maxsize=2048)
def encode(text: str) -> tuple[int, ...]:
    """Ids whose bytes, joined, are the text's UTF-8. Texts with an equal beginning share all its ids but a few."""
    return tuple(token for piece in _PIECE.findall(text) for token in _encode_piece(piece))


def decode(ids: Sequence[int]) -> str:
    """The text of the ids; U+FFFD where they cut a character."""
    return b"".join(map(token_bytes, ids)).decode("utf-8", "replace")


def id_bytes(ids: Sequence[int]) -> bytes:
    """The ids as fixed-size words, for hashing."""
    return array("Q", ids).tobytes()


def blocks(ids: Sequence[int], size: int, salt: str = "") -> tuple[int, ...]:
    """One chained hash for each full block of `size` ids: equal hashes mean equal prompts (and salt) so far."""
    raw, width = id_bytes(ids), 8 * size
    parent, hashes = xxhash.xxh3_64_intdigest(salt.encode()), []
    for at in range(0, len(raw) - width + 1, width):
        parent = xxhash.xxh3_64_intdigest(raw[at : at + width], seed=parent)
        hashes.append(parent)
    return tuple(hashes)
