"""Which replica a request goes to, and which ones after it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.core.affinity import Match
from gateway.core.books import Books
from gateway.core.policies.base import Policy
from gateway.core.rendezvous import weight
from gateway.core.request import RequestFacts
from gateway.core.types import FleetSnapshot, Replica, ReplicaState, ReplicaView
from gateway.errors import ModelNotFound, Unavailable

_READY = ReplicaState.READY

_TRUST = {ReplicaState.READY: 0, ReplicaState.SUSPECT: 1}
"""Who is asked, the lower first: suspect replicas only after all ready ones, warming and ejected ones not at all."""

PANIC_RATIO = 0.5
"""Share of a model's replicas, those that drain not counted, that must be ready. With fewer, to spare the doubtful ones
would put more than twice the usual load on the rest, who would fall next; and when most seem to have failed at once,
the view of them is as likely at fault as they are. Envoy's panic threshold is the same half."""

_TRUST_IN_PANIC = {ReplicaState.READY: 0, ReplicaState.SUSPECT: 0, ReplicaState.WARMING: 0, ReplicaState.EJECTED: 1}
"""All that answered lately share the load; those that are out come last, since their empty books make them look cheap,
and each request would find them first. A draining one is not asked, come what may."""

MAX_NAME_CHARS = 200
"""How much of an unknown model's name is said back, and logged: the name may be as long as the body."""


class Decision(NamedTuple):
    """The replicas to try, best first; `reason` is one word for the first of them.

    `best_depth`: blocks of the longest match at a replica that was ready to be chosen.
    """

    ranked: tuple[Replica, ...]
    reason: str
    best_depth: int = 0


def decide(facts: RequestFacts, fleet: FleetSnapshot, books: Books, match: Match, policy: Policy) -> Decision:
    """Rank the replicas that serve the request's model. Pure: it changes nothing, `Policy.record` learns.

    Raises `ModelNotFound` when the fleet is known not to serve the model, `Unavailable` when no replica can be asked.
    """
    views = candidates(facts.model, fleet)
    scores = policy.score(facts, views, books, match)
    order = _order(facts, views, scores)
    best = order[0]
    ready = views[best].state is _READY
    reason = policy.reason(facts, views, scores, best, match) if ready else "fallback"
    return Decision(tuple([views[i].replica for i in order]), reason, _best_depth(views, best, match))


def remaining(decision: Decision, attempts: int, fleet: FleetSnapshot) -> Decision:
    """The decision once so many attempts have failed: replicas that have left, or were put out since, are not asked.

    They still are where that would leave the ranking to panic.
    """
    views = {view.id: view for view in fleet.replicas if view.state is not ReplicaState.DRAINING}
    ranked = [views[replica.id] for replica in decision.ranked if replica.id in views]
    trusted = _trust(ranked)
    left = [
        replica for replica in decision.ranked[attempts:] if replica.id in views and views[replica.id].state in trusted
    ]
    return decision._replace(ranked=(*decision.ranked[:attempts], *left))


def _trust(views: Sequence[ReplicaView]) -> Mapping[ReplicaState, int]:
    """Which of them are asked, and how soon. The same answer for those that are asked as for all."""
    ready = sum([view.state is _READY for view in views])
    return _TRUST if ready >= PANIC_RATIO * len(views) else _TRUST_IN_PANIC


def _order(facts: RequestFacts, views: Sequence[ReplicaView], scores: Sequence[float]) -> list[int]:
    """Indexes of the views, best first. Ties go by the prompt: gateways that know nothing of each other agree."""
    indexes = range(len(views))
    if all(view.state is _READY for view in views) and len(set(scores)) == len(scores):
        return sorted(indexes, key=scores.__getitem__)  # the usual fleet: the figures alone decide
    trust = _trust(views)
    ranks = [
        (0 if view.state is _READY else trust[view.state], score) for view, score in zip(views, scores, strict=True)
    ]
    if len(set(ranks)) == len(ranks):
        return sorted(indexes, key=ranks.__getitem__)
    key = facts.blocks[0] if facts.blocks else facts.system_key or 0
    return sorted(indexes, key=lambda i: (*ranks[i], -weight(key, views[i].replica.id)))


def _best_depth(views: Sequence[ReplicaView], best: int, match: Match) -> int:
    depth = match.depth(views[best].replica.id)
    if depth == match.deepest:
        return depth
    return max([depth, *[match.depth(view.replica.id) for view in views if view.state is ReplicaState.READY]])


def candidates(model: str | None, fleet: FleetSnapshot) -> Sequence[ReplicaView]:
    """The replicas that may be asked for this model, never none. Raises as `decide` does."""
    known = fleet.candidates.get(model)
    if known is not None:
        return known
    serving = _serving(model, fleet)
    fleet.candidates[model] = serving  # only names that replicas serve get here
    return serving


def _serving(model: str | None, fleet: FleetSnapshot) -> tuple[ReplicaView, ...]:
    asked = tuple([view for view in fleet.replicas if view.state is not ReplicaState.DRAINING])
    if model is None:
        serving = asked
    else:
        serving = tuple([view for view in asked if view.models is not None and model in view.models])
        if not serving and asked:
            # A draining replica that serves it will be followed by another.
            if all(view.models is not None and model not in view.models for view in fleet.replicas):
                raise ModelNotFound(
                    f"no replica serves the model {model[:MAX_NAME_CHARS]!r}; see GET /v1/models", param="model"
                )
            # A replica that has not told its models yet may have this one.
            raise Unavailable("no replica that is known to serve this model takes traffic now", retry_after_s=1)
    if not serving:
        raise Unavailable("no replica can take traffic", retry_after_s=1)
    trust = _trust(serving)
    return tuple([view for view in serving if view.state in trust])
