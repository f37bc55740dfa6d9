"""What the processes on one port tell each other: how much each has sent where, and which prompts.

Loads are absolute, so that a lost message is made good by the next one that speaks of the replica, and a late one is
known by its number. A message in full, once in a while, speaks of all. What a process has in flight counts at the
others only while it is heard.
"""

from collections import deque
from collections.abc import Iterable

import msgspec

from gateway.core.affinity import PrefixIndex
from gateway.core.books import NOTHING, Amounts, Books
from gateway.core.types import ReplicaId

SILENT_AFTER_S = 3.0
"""A process that was not heard of for so long has ended, or will tell everything anew when it goes on."""

MAX_BLOCKS = 4096
"""Block hashes in one message: 36 kB, far below what a local datagram may have."""


class Message(msgspec.Struct, array_like=True, frozen=True):
    """`loads`: absolute, of the replicas that changed, or of all if `full`. `sent`: replicas and chains of blocks."""

    sender: int
    number: int
    full: bool
    loads: dict[str, tuple[int, int, int]]
    sent: list[tuple[str, list[int]]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class Shared:
    """One process's side. `sender` is its number, which no other process on the port has, nor will have."""

    def __init__(self, sender: int, books: Books, index: PrefixIndex) -> None:
        self._sender = sender
        self._books = books
        self._index = index
        self._number = 0
        self._told: dict[ReplicaId, Amounts] = {}
        self._heard: dict[int, _Heard] = {}
        self._briefing: deque[list[tuple[str, list[int]]]] = deque()
        """What the index holds, for one that has just come; the oldest process tells it, bit by bit."""
        index.sent = []

    def news(self, *, full: bool = False) -> list[bytes]:
        """What the others do not know yet. In full also what they should know; then there is a message in any case."""
        own = {replica: load.own for replica, load in self._books.loads()}
        changed = own if full else {name: load for name, load in own.items() if load != self._told.get(name, NOTHING)}
        self._told = own
        sent, self._index.sent = self._index.sent or [], []
        if self._briefing:
            sent = [*((ReplicaId(name), chain) for name, chain in self._briefing.popleft()), *sent]
        if not (full or changed or sent):
            return []
        pieces = list(_pieces(sent)) or [[]]
        first = self._message(full, changed, pieces[0])
        return [first, *(self._message(False, {}, piece) for piece in pieces[1:])]

    def _message(self, full: bool, loads: dict[ReplicaId, Amounts], sent: list[tuple[str, list[int]]]) -> bytes:
        self._number += 1
        return _encode(
            Message(self._sender, self._number, full, {str(name): load for name, load in loads.items()}, sent)
        )

    def hear(self, data: bytes, now: float) -> bool:
        """Take over what another process tells; whether it is one that was not known. `now`: monotonic seconds.

        What cannot be read is not heard.
        """
        try:
            message = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if message.sender == self._sender:
            return False
        for replica, blocks in message.sent:
            self._index.learn(ReplicaId(replica), blocks)
        new = message.sender not in self._heard
        if new and self._sender < min((message.sender, *self._heard)):
            self._briefing.extend(_pieces(self._index.contents(MAX_BLOCKS)))
        heard = self._heard.setdefault(message.sender, _Heard())
        heard.at = now
        if message.number > heard.number:  # it was not overtaken
            heard.number = message.number
            self._take_over(heard, message)
        return new

    def _take_over(self, heard: "_Heard", message: Message) -> None:
        loads = {ReplicaId(name): amounts for name, amounts in message.loads.items()}
        before = heard.loads
        heard.loads = loads if message.full else {**before, **loads}
        self._enter(before.keys() | loads.keys())

    def forget(self, sender: int) -> None:
        """That process has ended, and what it had in flight with it."""
        heard = self._heard.pop(sender, None)
        if heard is not None:
            self._enter(heard.loads.keys())

    def expire(self, now: float) -> None:
        """Forget those that have been silent."""
        for sender in [sender for sender, heard in self._heard.items() if now - heard.at > SILENT_AFTER_S]:
            self.forget(sender)

    def _enter(self, replicas: Iterable[ReplicaId]) -> None:
        for replica in replicas:
            parts = [heard.loads.get(replica, NOTHING) for heard in self._heard.values()]
            queued, in_flight, held = (sum(part[i] for part in parts) for i in range(3))
            self._books[replica].set_others((queued, in_flight, held))


class _Heard:
    __slots__ = ("at", "loads", "number")

    def __init__(self) -> None:
        self.at = 0.0
        self.number = 0
        self.loads: dict[ReplicaId, Amounts] = {}


def _pieces(sent: Iterable[tuple[ReplicaId, Iterable[int]]]) -> Iterable[list[tuple[str, list[int]]]]:
    """In messages of so many blocks at most; a longer chain is cut, and its beginning is what others can match."""
    piece: list[tuple[str, list[int]]] = []
    size = 0
    for replica, blocks in sent:
        chain = list(blocks)[:MAX_BLOCKS]
        if piece and size + len(chain) > MAX_BLOCKS:
            yield piece
            piece, size = [], 0
        piece.append((replica, chain))
        size += len(chain)
    if piece:
        yield piece
