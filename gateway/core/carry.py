"""What a client has been given of a streamed answer, as another replica must know it to go on from there.

Token ids make a resumed answer exact, text mostly does not: a tokenizer need not cut a text the way the model wrote it.
Sources: vLLM's `return_token_ids`; the rules for half characters and stop strings were tried on real vLLM.
"""

from collections.abc import Generator

import msgspec

from gateway.core.decoding import UNREADABLE

HALF = "\ufffd"
"""What half a character is decoded to."""

_array = msgspec.json.Decoder(list[int])
_string = msgspec.json.Decoder(str)


class Carry:
    """Grows with each token event that is handed on, by a few bytes a token."""

    __slots__ = ("_ids", "_text", "_told", "events", "exact", "lost", "merged", "prompt", "sample", "shown")

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact
        """Whether token ids are to be told."""
        self.sample = b""
        """The data of an event with a choice: what comes later is given its shape. Empty before the first one."""
        self.prompt: bytes | None = None
        """The prompt's token ids as a JSON array; `None` while they have not been told."""
        self.lost = False
        """Whether something went by that cannot be continued: reasoning, tool calls, several choices."""
        self.events = 0
        """Events with text: not more than there were tokens."""
        self.merged = False
        """Whether the last event with text had several tokens: the last of them may be half a character."""
        self.shown = 0
        """Tokens that were told before the last `cut`: a client that wants ids has those of them."""
        self._ids = bytearray()
        self._told = 0
        self._text = bytearray()

    def add(self, text: bytes, ids: bytes) -> None:
        """An event with this text, as it stands between the quotation marks of JSON, and the ids of its tokens,
        separated by commas. Tokens without text of their own may be half a character: they count from the next text
        on."""
        if ids:
            self._ids += ids
            self._ids += b","
        if text:
            self._text += text
            self._told = len(self._ids)
            self.merged = b"," in ids
            self.events += 1

    def cut(self, kept: int) -> None:
        """Only the first so many ids hold: what follows will be told anew."""
        self.shown = max(self.shown, self.tokens)
        self._ids = bytearray(b"".join([b"%d," % token for token in self.ids[:kept]]))
        self._told = len(self._ids)
        self.merged = False

    @property
    def text(self) -> str:
        """All text that was handed on."""
        return _string.decode(b'"' + self._text + b'"')

    @property
    def ids(self) -> list[int]:
        """The ids of all tokens that were told; they may run ahead of the text."""
        return _array.decode(b"[" + self._ids.rstrip(b",") + b"]")

    @property
    def with_text(self) -> int:
        """How many ids there are up to the last one with text of its own: where an answer can be cut, if that event had
        one id, and no stop string holds text back."""
        return self._ids[: self._told].count(b",")

    @property
    def prompt_ids(self) -> list[int]:
        """The prompt's token ids. Only where `prompt` is known."""
        assert self.prompt is not None
        return _array.decode(self.prompt)

    @property
    def ready(self) -> bool:
        """Whether another replica can go on from here."""
        told = not self.lost and self.sample != b"" and (self.prompt is not None or not self.exact)
        return told and self._readable

    @property
    def _readable(self) -> bool:
        """Events that look like those before them are handed on unparsed: what one of them told may be no JSON."""
        try:
            _ = self.text, self.ids
        except UNREADABLE:
            return False
        return True

    @property
    def tokens(self) -> int:
        """How many tokens were told in events that went on."""
        return self._ids.count(b",")


def seek_cut(told: str, upper: int, held: int) -> Generator[int, str, tuple[int, int]]:
    """Where an answer under stop strings is cut: how many of its ids are kept, and how many characters of what follows
    the client has already. Yields numbers of ids, and wants to be sent the text of the first so many of them.

    vLLM holds back as many characters as a stop string could be long, so that ids run ahead of the text. Kept is the
    largest number of ids whose text is a beginning of what was `told` and does not end in half a character.
    `upper`: all ids; `held`: the most characters that can be held back, and so about the most ids to be given up.
    """
    low, high = 0, upper
    likely = max(0, upper - held)
    if likely and _begins(told, (yield likely)):
        low = likely
    while low < high:  # texts grow with their ids: halving finds the last one that is not too long
        middle = (low + high + 1) // 2
        if len((yield middle).rstrip(HALF)) <= len(told):
            low = middle
        else:
            high = middle - 1
    while low > 0:
        text = yield low
        if _begins(told, text):
            return low, len(told) - len(text)
        low -= 1
    return 0, len(told)


def _begins(told: str, text: str) -> bool:
    return told.startswith(text) and not text.endswith(HALF)
