"""Processes that tell each other their loads and prompts: whatever is lost or late, they come to agree."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.affinity import PrefixIndex
from gateway.core.books import Books, Entry
from gateway.core.shared import MAX_BLOCKS, SILENT_AFTER_S, Shared
from gateway.core.types import ReplicaId

A, B = ReplicaId("a"), ReplicaId("b")
STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "first_token", "close"]), st.sampled_from([A, B]), st.integers(0, 99)),
    max_size=30,
)


class Process:
    def __init__(self, number: int) -> None:
        self.books, self.index = Books(), PrefixIndex()
        self.shared = Shared(number, self.books, self.index)
        self.entries: list[Entry] = []

    def step(self, kind: str, replica: ReplicaId, number: int) -> None:
        if kind == "open":
            self.entries.append(self.books.open(replica, number, number + 10))
        elif self.entries:
            getattr(self.entries[number % len(self.entries)], kind)()

    def load(self, replica: ReplicaId) -> tuple[int, int, int]:
        load = self.books[replica]
        return (load.queued_tokens, load.in_flight, load.held_tokens)


def talk(one: Process, other: Process, now: float = 0.0) -> None:
    """Each hears all of the other's news, in full."""
    for message in one.shared.news(full=True):
        other.shared.hear(message, now)
    for message in other.shared.news(full=True):
        one.shared.hear(message, now)


@given(STEPS, st.lists(st.booleans(), max_size=30), st.randoms(use_true_random=False))
def test_lost_and_late_messages_are_made_good(steps, kept, random) -> None:
    """After one message in full, the other sees what there is, whatever came of those before."""
    one, other = Process(1), Process(2)
    other.books.open(A, 7, 7)
    sent: list[bytes] = []
    for kind, replica, number in steps:
        one.step(kind, replica, number)
        sent += one.shared.news()
    arrived = [message for message, keep in zip(sent, kept, strict=False) if keep]
    random.shuffle(arrived)
    for message in arrived:
        other.shared.hear(message, 0.0)
    for message in one.shared.news(full=True):
        other.shared.hear(message, 0.0)
    for message in arrived:
        other.shared.hear(message, 0.0)
    queued, in_flight, held = one.load(A)
    assert other.load(A) == (queued + 7, in_flight + 1, held + 7)
    assert other.load(B) == one.load(B)
    assert (other.books[A].own, other.books.total_in_flight()) == ((7, 1, 7), 1)


@given(STEPS)
def test_messages_that_all_arrive_need_none_in_full(steps) -> None:
    """Changes alone are enough as long as none is lost; without a change nothing is sent."""
    one, other = Process(1), Process(2)
    for kind, replica, number in steps:
        one.step(kind, replica, number)
        for message in one.shared.news():
            other.shared.hear(message, 0.0)
    assert [other.load(replica) for replica in (A, B)] == [one.load(replica) for replica in (A, B)]
    assert one.shared.news() == []


@given(STEPS, STEPS)
def test_two_see_the_same_and_nobody_counts_himself_twice(first, second) -> None:
    """Each one's account is the sum of both."""
    one, other = Process(1), Process(2)
    for step in first:
        one.step(*step)
    for step in second:
        other.step(*step)
    for _ in range(3):
        talk(one, other)
    assert [one.load(replica) for replica in (A, B)] == [other.load(replica) for replica in (A, B)]
    assert one.books[A].in_flight == one.books[A].own[1] + other.books[A].own[1]


def test_what_a_dead_process_had_is_not_in_flight() -> None:
    """It is forgotten when its socket refuses, or when it has been silent."""
    for end in (lambda shared: shared.forget(2), lambda shared: shared.expire(SILENT_AFTER_S + 0.1)):
        one, other = Process(1), Process(2)
        one.books.open(A, 1, 1)
        other.books.open(A, 5, 5)
        talk(one, other)
        one.shared.expire(SILENT_AFTER_S)
        assert one.load(A) == (6, 2, 6)
        end(one.shared)
        assert one.load(A) == (1, 1, 1)
        one.shared.forget(2)


def test_prompts_are_known_to_all_and_not_told_twice() -> None:
    """What one has sent, the other finds; it does not tell it on."""
    one, other = Process(1), Process(2)
    talk(one, other)
    one.index.record(A, [1, 2, 3])
    for message in one.shared.news():
        other.shared.hear(message, 0.0)
    assert other.index.match([1, 2, 9]).depth(A) == 2
    assert other.shared.news() == []


def test_one_that_comes_later_learns_what_the_others_know() -> None:
    """In several messages if it is much; one that has filled up forgets the same as the old one would."""
    old, middle, new = Process(1), Process(2), Process(3)
    chain = list(range(1, 2 * MAX_BLOCKS))
    old.index.resize(A, len(chain))
    new.index.resize(A, len(chain))
    old.index.record(A, chain)
    old.index.record(B, [7])
    old.shared.news()
    talk(old, middle)
    for _ in range(4):
        talk(old, new)
    assert new.index.match(chain).depth(A) == len(chain)
    assert new.index.match([7]).depth(B) == 1
    assert dict(new.index.contents(10**6)) == dict(old.index.contents(10**6))


def test_what_cannot_be_read_changes_nothing() -> None:
    """Nor does one's own message, should it come back."""
    one = Process(1)
    one.books.open(A, 1, 1)
    for message in (b"", b"\xff", b"\x93\x01\x02\x03", *one.shared.news(full=True)):
        one.shared.hear(message, 0.0)
    assert one.load(A) == (1, 1, 1)
