from hypothesis import given
from hypothesis import strategies as st

from gateway.core.books import Books, Load
from gateway.core.types import ReplicaId

REPLICAS = [ReplicaId("a"), ReplicaId("b"), ReplicaId("c")]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "first_token", "close"]),
        st.integers(0, 99),
        st.integers(0, 9999),
        st.integers(0, 9999),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_account_ends_at_zero(steps):
    """Whatever the order of calls, repeated ones included, no account goes below zero and all end at zero."""
    books = Books()
    entries = []
    for step, number, work, prompt in steps:
        if step == "open":
            entries.append(books.open(REPLICAS[number % 3], work, prompt))
        elif entries:
            getattr(entries[number % len(entries)], step)()
        for replica in REPLICAS:
            load = books[replica]
            assert min(load.queued_tokens, load.in_flight, load.held_tokens) >= 0
    for entry in entries:
        entry.close()
    assert [books[replica] for replica in REPLICAS] == [Load(), Load(), Load()]
    assert books.total_in_flight() == 0


def test_an_open_entry_is_counted():
    """A request is queued, in flight and held at its replica, and nowhere else."""
    books = Books()
    books.open(REPLICAS[0], 70, 100)
    assert books[REPLICAS[0]] == Load(queued_tokens=70, in_flight=1, held_tokens=100)
    assert books[REPLICAS[1]] == Load()
    assert books.total_in_flight() == 1


def test_the_first_token_ends_the_prefill_only():
    """After its first token a request has no queued work, but is still in flight and holds its tokens."""
    books = Books()
    entry = books.open(REPLICAS[0], 70, 100)
    entry.first_token()
    entry.first_token()
    assert books[REPLICAS[0]] == Load(queued_tokens=0, in_flight=1, held_tokens=100)


def test_a_token_after_the_end_changes_nothing():
    """A late first token of a closed entry takes nothing from the entries of others."""
    books = Books()
    late = books.open(REPLICAS[0], 70, 100)
    books.open(REPLICAS[0], 5, 6)
    late.close()
    late.first_token()
    late.close()
    assert books[REPLICAS[0]] == Load(queued_tokens=5, in_flight=1, held_tokens=6)


def test_the_repr_tells_the_loads():
    """An operator sees each replica's account in the log."""
    books = Books()
    books.open(REPLICAS[0], 1, 2)
    assert repr(books) == "<Books {'a': Load(queued_tokens=1, in_flight=1, held_tokens=2)}>"
