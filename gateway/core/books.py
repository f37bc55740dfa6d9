"""What this gateway has in flight at each replica: opened at dispatch, given back exactly once."""

from dataclasses import dataclass

from gateway.core.types import ReplicaId


@dataclass(slots=True)
class Load:
    """A replica's account, in ROUTING's symbols.

    `queued_tokens` (Q): prefill work of own requests that have no first token yet.
    `in_flight` (n): own requests. `held_tokens` (K): their prompt tokens.
    """

    queued_tokens: int = 0
    in_flight: int = 0
    held_tokens: int = 0


class Entry:
    """One request's place in one replica's account. Every method may be called again and then does nothing."""

    __slots__ = ("_held_tokens", "_load", "_open", "_queued_tokens")

    def __init__(self, load: Load, work_tokens: int, prompt_tokens: int) -> None:
        self._load = load
        self._queued_tokens = work_tokens
        self._held_tokens = prompt_tokens
        self._open = True
        load.queued_tokens += work_tokens
        load.in_flight += 1
        load.held_tokens += prompt_tokens

    def first_token(self) -> None:
        """Its prefill is done."""
        self._load.queued_tokens -= self._queued_tokens
        self._queued_tokens = 0

    def close(self) -> None:
        """It has finished, failed or been cancelled: everything is given back."""
        if self._open:
            self._open = False
            self.first_token()
            self._load.in_flight -= 1
            self._load.held_tokens -= self._held_tokens


class Books:
    """The accounts of all replicas. `books[replica]` is live: read it once per decision."""

    def __init__(self) -> None:
        self._loads: dict[ReplicaId, Load] = {}

    def __getitem__(self, replica: ReplicaId) -> Load:
        load = self._loads.get(replica)
        if load is None:
            load = self._loads[replica] = Load()
        return load

    def open(self, replica: ReplicaId, work_tokens: int, prompt_tokens: int) -> Entry:
        """Enter a request. The entry must be closed, whatever becomes of the request."""
        return Entry(self[replica], work_tokens, prompt_tokens)

    def replicas(self) -> set[ReplicaId]:
        """Those that have an account."""
        return set(self._loads)

    def forget(self, replica: ReplicaId) -> None:
        """The replica has left: its account goes, unless something is still in flight there."""
        load = self._loads.get(replica)
        if load is not None and not load.in_flight:
            del self._loads[replica]

    def total_in_flight(self) -> int:
        return sum(load.in_flight for load in self._loads.values())

    def __repr__(self) -> str:
        return f"<Books {self._loads}>"
