"""Who belongs to the fleet: what becomes of the snapshot when other replicas are wanted.

A replica is the same as long as its name, URL, key and engine are; what else its entry says may change without a trace.
One that is no longer wanted drains, and has left when nothing of it is in flight, or when its time is over. One that
has another URL, key or engine is another replica: it takes the name at once, and the streams of the old one go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from gateway.core.health import Rules, step
from gateway.core.types import Condition, FleetSnapshot, Leaving, Replica, ReplicaId, ReplicaState, ReplicaView, Sign

_RULES = Rules()
"""Commands do not count anything, so that it is no matter which."""


class Change(NamedTuple):
    """A new snapshot (the same object if nothing changes) and what led to it.

    `gone`: replicas that are not in the fleet any more, or whose name is another's now: what is known of them is void.
    """

    snapshot: FleetSnapshot
    joined: tuple[ReplicaId, ...] = ()
    leaving: tuple[ReplicaId, ...] = ()
    gone: tuple[Replica, ...] = ()


def wanted(snapshot: FleetSnapshot, replicas: Sequence[Replica], now: float) -> Change:
    """The fleet, once these replicas, of different names, are the ones that are wanted."""
    before = {view.id: view for view in snapshot.replicas}
    state = _first_state(snapshot)
    views: list[ReplicaView] = []
    for replica in replicas:
        old = before.get(replica.id)
        views.append(_joining(replica, state) if old is None else _again(old, replica, state))
    named = {replica.id for replica in replicas}
    views += [_left(view, now) for view in snapshot.replicas if view.id not in named]
    if len(views) == len(before) and all(new is old for new, old in zip(views, snapshot.replicas, strict=True)):
        return Change(snapshot)
    gone = tuple([before[view.id].replica for view in views if view.id in before and not _same(view, before[view.id])])
    return Change(
        FleetSnapshot(tuple(views)),
        joined=tuple([view.id for view in views if view.id not in before or not _same(view, before[view.id])]),
        leaving=tuple([view.id for view in views if view.leaving and not before[view.id].leaving]),
        gone=gone,
    )


def departed(
    snapshot: FleetSnapshot, in_flight: Callable[[ReplicaId], int], now: float, drain_timeout_s: float
) -> Change:
    """The fleet without those that have drained, or had time enough to."""
    gone = [
        view.replica
        for view in snapshot.replicas
        if view.leaving and (not in_flight(view.id) or now - view.leaving.since >= drain_timeout_s)
    ]
    if not gone:
        return Change(snapshot)
    names = {replica.id for replica in gone}
    return Change(FleetSnapshot(tuple([v for v in snapshot.replicas if v.id not in names])), gone=tuple(gone))


def same_engine(one: Replica, other: Replica) -> bool:
    """Whether what is known of one is true of the other."""
    return one.identity == other.identity


def _same(one: ReplicaView, other: ReplicaView) -> bool:
    return same_engine(one.replica, other.replica)


def _first_state(snapshot: FleetSnapshot) -> ReplicaState:
    """A fleet of which nobody has answered yet is a start: nothing runs, nothing is hot, and the first answer will do.
    Into one that serves a replica comes as from an ejection, by way of its probes and a warm-up."""
    starts = all(view.seen_at is None for view in snapshot.replicas)
    return ReplicaState.SUSPECT if starts else ReplicaState.EJECTED


def _joining(replica: Replica, state: ReplicaState) -> ReplicaView:
    return ReplicaView(replica, state, condition=Condition(down=state is ReplicaState.EJECTED))


def _again(view: ReplicaView, replica: Replica, state: ReplicaState) -> ReplicaView:
    """What becomes of the view of a replica whose name is wanted."""
    if not same_engine(view.replica, replica):
        fresh = _joining(replica, state)
        # Another key does not change what is served there: when all keys are changed at once, somebody must serve.
        same_place = (view.replica.url, view.replica.engine) == (replica.url, replica.engine)
        return replace(fresh, models=view.models, parents=view.parents) if same_place else fresh
    if view.leaving is not None:
        view = _back(view, state)
    return view if view.replica == replica else replace(view, replica=replica)


def _back(view: ReplicaView, state: ReplicaState) -> ReplicaView:
    """It is wanted again before it has left. Whoever had told it to drain has not told it to resume."""
    assert view.leaving is not None
    if view.leaving.drained:
        return replace(view, leaving=None)
    if view.seen_at is None:
        return replace(_joining(view.replica, state), gpus=view.gpus)
    after, condition = step(view.state, view.condition, Sign.RESUME, 0.0, _RULES)
    return replace(view, state=after, condition=condition, leaving=None)


def _left(view: ReplicaView, now: float) -> ReplicaView:
    if view.leaving is not None:
        return view
    after, condition = step(view.state, view.condition, Sign.DRAIN, now, _RULES)
    leaving = Leaving(now, drained=view.state is ReplicaState.DRAINING)
    return replace(view, state=after, condition=condition, leaving=leaving)
