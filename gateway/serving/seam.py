"""Where an answer broke off in mid-stream, and what another replica is asked for the rest of it."""

from dataclasses import dataclass

import msgspec

from gateway.core.bodies import begun_stop, longest_stop
from gateway.core.carry import Carry, seek_cut
from gateway.core.continuation import Continuation
from gateway.core.decoding import UNREADABLE
from gateway.core.relay import StreamRelay
from gateway.core.request import RequestFacts, asking_for_ids
from gateway.core.resume import resumed_by_text, resumed_exactly
from gateway.core.tracked import TrackedRelay
from gateway.core.types import Replica
from gateway.errors import ReplicaFailed
from gateway.serving.ask import ask
from gateway.serving.desk import Desk


@dataclass(frozen=True, slots=True)
class Errand:
    """What a replica is sent, and what reads its events; `relay` is `None` for the usual one."""

    url: bytes
    body: bytes
    relay: StreamRelay | None = None


def first_errand(desk: Desk, replica: Replica, url: bytes, facts: RequestFacts) -> Errand:
    """The client's own request; where its answer can be resumed, what that takes is asked for, and kept."""
    mode = desk.limits.resume
    exact = mode == "exact" and replica.engine == "vllm"
    if not facts.resumable or not (exact or mode == "text"):
        return Errand(url, facts.body)
    body = asking_for_ids(facts.body) if exact and not facts.shows_ids else facts.body
    relay = TrackedRelay(facts.endpoint.read, hide_usage=facts.hides_usage, wants_ids=exact, shows_ids=facts.shows_ids)
    return Errand(url, body, relay)


class Seam:
    """One place where an answer goes on elsewhere. `kept`: tokens of output that need not be made again."""

    __slots__ = ("_carry", "_facts", "_url", "kept")

    def __init__(self, url: bytes, facts: RequestFacts, carry: Carry) -> None:
        self._url = url
        self._facts = facts
        self._carry = carry
        self.kept = 0

    async def errand(self, desk: Desk, replica: Replica) -> Errand:
        """What this replica is asked. Raises `ReplicaFailed` if it cannot go on with the answer."""
        try:
            return await self._errand(desk, replica)
        except UNREADABLE as error:
            raise ReplicaFailed(f"replica {replica.id} cannot go on with the answer: {error}") from None

    async def _errand(self, desk: Desk, replica: Replica) -> Errand:
        """Raises msgspec's errors, too: where /detokenize answers something else, or a field of the client's has a type
        that replicas take and the gateway does not read (a `max_tokens` in quotation marks)."""
        facts, carry = self._facts, self._carry
        if not carry.exact:
            self.kept = carry.events
            body = resumed_by_text(facts.endpoint, facts.body, carry)
            return self._asking(self._url, body, replica, 0)
        if replica.engine != "vllm":
            raise ReplicaFailed(f"replica {replica.id} cannot go on from token ids")
        self.kept, skip = await self._cut(desk, replica)
        body = resumed_exactly(facts.endpoint, facts.body, carry, self.kept)
        return self._asking(b"/v1/completions", body, replica, skip)

    def _asking(self, url: bytes, body: bytes | None, replica: Replica, skip: int) -> Errand:
        if body is None:
            raise ReplicaFailed(f"replica {replica.id}: there is nothing left to ask for")
        facts, carry = self._facts, self._carry
        carry.cut(self.kept)
        relay = Continuation(carry, kept=self.kept, skip=skip, hide_usage=facts.hides_usage, shows_ids=facts.shows_ids)
        return Errand(url, body, relay)

    async def _cut(self, desk: Desk, replica: Replica) -> tuple[int, int]:
        """Ids to keep, and characters of what follows that the client has already."""
        carry = self._carry
        held = longest_stop(self._facts.body) - 1
        if held < 1 and not carry.merged:
            return carry.with_text, 0
        prompt, ids = carry.prompt_ids, carry.ids
        start = await _text_of(desk, replica, prompt)
        begun = begun_stop(self._facts.body, carry.text)
        safe = carry.text[: len(carry.text) - begun]  # the new replica is to see the whole of a stop string
        search = seek_cut(safe, len(ids), max(held, 0) + 8)
        try:
            wanted = next(search)
            while True:
                text = await _text_of(desk, replica, prompt + ids[:wanted])
                if not text.startswith(start):
                    raise ReplicaFailed(f"replica {replica.id}: the prompt's text has no end of its own")
                wanted = search.send(text[len(start) :])
        except StopIteration as found:
            kept, skip = found.value
            return kept, skip + begun


class _Detokenized(msgspec.Struct):
    prompt: str


_detokenized = msgspec.json.Decoder(_Detokenized)


async def _text_of(desk: Desk, replica: Replica, ids: list[int]) -> str:
    answer = await ask(
        desk.pool, replica, "/detokenize", msgspec.json.encode({"tokens": ids}), desk.limits.connect_timeout_s
    )
    return _detokenized.decode(answer).prompt
