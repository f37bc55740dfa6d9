"""Why a request would go where: the decision, with every term of every replica's score. Nothing is sent or recorded."""

from dataclasses import dataclass

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.endpoints import Endpoint
from gateway.core.guess import endpoint_of
from gateway.core.policies.base import Policy
from gateway.core.request import RequestFacts
from gateway.core.routing import candidates, decide
from gateway.core.types import FleetSnapshot, ReplicaId, ReplicaState, ReplicaView, Term

HEADER_REPLICAS = 8
"""How many replicas fit into a response header: with the longest names still under 2 KB."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a client would send it. `path`: `None` leaves it to the look of the body."""

    body: bytes
    path: str | None = None
    content_type: bytes = b"application/json"
    session: str | None = None

    @property
    def endpoint(self) -> Endpoint:
        """What it is for. Raises `BadRequest` where that cannot be told."""
        return endpoint_of(self.path, self.content_type, self.body)


@dataclass(frozen=True, slots=True)
class ReplicaExplanation:
    """A replica's place, and its price: `score` is the sum of the terms' values, in the policy's unit.

    `cached_tokens`, `uncached_tokens`: what it is likely to hold of this prompt, and what is left to compute.
    """

    replica: ReplicaId
    rank: int
    state: ReplicaState
    score: float
    cached_tokens: int
    uncached_tokens: int
    terms: tuple[Term, ...]

    def sum(self) -> str:
        """`name score=term+term+…`."""
        return f"{self.replica} {figure(self.score)}={'+'.join([figure(term.value) for term in self.terms])}"


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A replica that is not asked at all, and why."""

    replica: ReplicaId
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer of `POST /admin/explain`. `replicas` are in the order in which they would be tried.

    `path`: what it was taken for. `prompt_tokens` is the gateway's estimate.
    `avoidable_tokens`: prefill that the longest match would have saved.
    """

    path: str
    model: str | None
    policy: str
    unit: str
    reason: str
    prompt_tokens: int
    blocks: int
    avoidable_tokens: int
    summary: str
    replicas: tuple[ReplicaExplanation, ...]
    passed_over: tuple[PassedOver, ...]

    def header(self) -> bytes:
        """The line `x-gateway-score`: the policy and the names of its terms, then the terms of the best replicas."""
        names = "+".join(term.name for term in self.replicas[0].terms)
        best = "".join(f"; {replica.sum()}" for replica in self.replicas[:HEADER_REPLICAS])
        more = f"; and {left} more" if (left := len(self.replicas) - HEADER_REPLICAS) > 0 else ""
        return f"x-gateway-score: {self.policy} {self.unit} {names}{best}{more}\r\n".encode()


def explain(facts: RequestFacts, fleet: FleetSnapshot, books: Books, match: Match, policy: Policy) -> Explanation:
    """The decision that `decide` makes of the same arguments. Raises as `decide` does."""
    decision = decide(facts, fleet, books, match, policy)
    views = candidates(facts.model, fleet)
    terms = policy.terms(facts, views, books, match)
    by_replica = {view.id: (view, tuple(own)) for view, own in zip(views, terms, strict=True)}
    ranked = tuple(
        _replica(facts, rank, *by_replica[replica.id], match) for rank, replica in enumerate(decision.ranked, 1)
    )
    return Explanation(
        path=facts.endpoint.path,
        model=facts.model,
        policy=policy.name,
        unit=policy.unit,
        reason=decision.reason,
        prompt_tokens=facts.prompt_tokens,
        blocks=len(facts.blocks),
        avoidable_tokens=max(0, ranked[0].uncached_tokens - facts.uncached_tokens(decision.best_depth)),
        summary=_summary(ranked, decision.reason, policy),
        replicas=ranked,
        passed_over=tuple(PassedOver(view.id, _why(view)) for view in fleet.replicas if view.id not in by_replica),
    )


def figure(value: float) -> str:
    """A score or a term for people: whole numbers, or three digits below 100."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _replica(
    facts: RequestFacts, rank: int, view: ReplicaView, terms: tuple[Term, ...], match: Match
) -> ReplicaExplanation:
    uncached = facts.uncached_tokens(match.depth(view.id))
    return ReplicaExplanation(
        replica=view.id,
        rank=rank,
        state=view.state,
        score=sum(term.value for term in terms),
        cached_tokens=facts.prompt_tokens - uncached,
        uncached_tokens=uncached,
        terms=terms,
    )


def _summary(ranked: tuple[ReplicaExplanation, ...], reason: str, policy: Policy) -> str:
    """The first against the second, in one sentence."""
    first, *others = ranked
    if not others:
        return f"{first.replica}: no other replica can be asked"
    second = others[0]
    if first.state is not second.state:
        return (
            f"{first.replica} is {first.state.value}, the next, {second.replica}, only {second.state.value} ({reason})"
        )
    if first.score == second.score:
        return f"{first.replica} and {second.replica} cost the same; the prompt's hash decides ({reason})"
    gaps = [(theirs.value - own.value, own) for own, theirs in zip(first.terms, second.terms, strict=True)]
    gap, term = max(gaps, key=lambda pair: pair[0])
    return (
        f"{first.replica} costs {first.score:.4g} {policy.unit}, the next, {second.replica}, {second.score:.4g}; "
        f"the largest difference is {gap:.4g} in {term.name} ({reason})"
    )


def _why(view: ReplicaView) -> str:
    if view.state is ReplicaState.DRAINING:
        return "it is draining"
    if view.models is None:
        return "it has not told yet which models it serves"
    if view.state in (ReplicaState.WARMING, ReplicaState.EJECTED):
        return f"it is {view.state.value}, and enough others are ready"
    return "it does not serve this model"
