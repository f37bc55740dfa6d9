"""When a replica takes traffic: a state machine of five states, written as a table.

Theory of operation
-------------------
Signs come from probes, from requests, from GPUs, from the warm-up and from people. They are first *counted* (`_count`):
single failures do little, rows of them do. What the count amounts to is a `Move`; the table `MOVES` says which state
it leads to. A move that a state's row does not name leaves the state as it is: signs are told late, and twice.

    suspect ──good──► ready ──failed──► suspect        one bad sign casts doubt, one good one lifts it
       └──── fallen · struck · down ──► ejected        rows of bad signs, or a certain one, put it out
    ejected ──risen──► warming ──warmed──► ready       it comes back in two steps
    any ──drain──► draining ──resumed──► ready, or ejected if it was down meanwhile

- *Suspect* is the first state: nothing is known yet. The first answer makes it ready; it was never out, so nothing has
  to be proven or warmed. Whoever adds a replica to a fleet that runs enters it as ejected, and it is warmed.
- *Probes* have HAProxy's rise and fall: `fall` failures in a row put a replica out, `rise` good ones bring it back.
  A served request is as good an answer as a probe's, and ends a row of failed ones: an engine that is too busy for its
  probes serves. It does not bring back what is out: what was under way there may still come.
- *A refused connection is certain*: nobody listens. The replica is out at once, and no further request finds it.
- *A broken connection* casts doubt; requests that err (see `Sign`) do not by themselves, since one prompt can make
  any replica fail. `fall` requests failed in a row, none served between, put it out. Its probes may be good all the
  while (a frozen vLLM answers /health), so they do not count for a time that doubles with each such ejection until it
  serves again.
- *Slowness is no failure.* There is no sign for it; a slow replica serves between its time-outs, and stays.
- *A lost GPU* puts it out until the GPU is found.
- *Warming* ends when the warm-up says so. It failing altogether is a failure; a probe that fails is counted on.
- *Draining* begins and ends by command and outlasts everything else. One that was down while it drained has lost its
  cache, and comes back as from an ejection.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.core.types import Condition, ReplicaState, Sign

HOLD_S = 5.0
"""How long good probes do not count after requests put a replica out, the first time: Envoy's outlier detection begins
with 30 s, but there every host is as good as another, and here a cache is lost with each."""

MAX_HOLD_S = 60.0


@dataclass(frozen=True, slots=True)
class Rules:
    """`fall`: failures in a row that put a replica out; `rise`: good probes in a row that bring it back.

    The defaults are HAProxy's.
    """

    fall: int = 3
    rise: int = 2


class Move(StrEnum):
    """What signs amount to."""

    GOOD = "good"
    """It answers."""
    RISEN = "risen"
    """It is out and has answered `rise` probes in a row."""
    FAILED = "failed"
    """It failed, which may mean nothing."""
    FALLEN = "fallen"
    """It has failed `fall` probes in a row."""
    STRUCK = "struck"
    """It has failed `fall` requests in a row."""
    DOWN = "down"
    """It is certainly out."""
    WARMED = "warmed"
    NOT_WARMED = "not warmed"
    DRAIN = "drain"
    RESUMED = "resumed"
    RESUMED_DOWN = "resumed down"
    """It has been out since it was last ready."""
    NONE = "none"


READY, WARMING, SUSPECT, EJECTED, DRAINING = ReplicaState

_OUT = {Move.FALLEN: EJECTED, Move.STRUCK: EJECTED, Move.DOWN: EJECTED, Move.DRAIN: DRAINING}

MOVES: dict[ReplicaState, dict[Move, ReplicaState]] = {
    SUSPECT: {Move.GOOD: READY, **_OUT},
    READY: {Move.FAILED: SUSPECT, **_OUT},
    WARMING: {Move.WARMED: READY, Move.NOT_WARMED: EJECTED, **_OUT},
    EJECTED: {Move.RISEN: WARMING, Move.DRAIN: DRAINING},
    DRAINING: {Move.RESUMED: READY, Move.RESUMED_DOWN: EJECTED},
}


def step(
    state: ReplicaState, condition: Condition, sign: Sign, now: float, rules: Rules
) -> tuple[ReplicaState, Condition]:
    """The state after one more sign. The same `condition` object when nothing has changed."""
    if sign is Sign.SERVED and state is READY and not (condition.strikes or condition.trials or condition.down):
        return state, condition  # each request that goes well says so, and it changes nothing
    counted, move = _count(state, condition, sign, now, rules)
    after = MOVES[state].get(move, state)
    if after is EJECTED and state is not EJECTED:
        return after, _ejected(counted, move, now)
    if state is DRAINING and move in (Move.FALLEN, Move.DOWN):
        return after, replace(counted, down=True)
    if after is READY and counted.down:
        return after, replace(counted, down=False)
    return after, counted


def hold_s(trials: int) -> float:
    """How long good probes do not count after the so-manieth ejection for failed requests in a row."""
    return min(MAX_HOLD_S, HOLD_S * 2.0 ** min(trials - 1, 10))


def _ejected(condition: Condition, move: Move, now: float) -> Condition:
    """Only requests speak against what probes say, and so only then probes have to wait."""
    if move in (Move.STRUCK, Move.NOT_WARMED):
        trials = condition.trials + 1
        return replace(condition, successes=0, strikes=0, trials=trials, out_until=now + hold_s(trials), down=True)
    return replace(condition, successes=0, strikes=0, out_until=now, down=True)


def _count(state: ReplicaState, condition: Condition, sign: Sign, now: float, rules: Rules) -> tuple[Condition, Move]:
    match sign:
        case Sign.ANSWERED:
            return _answered(state, condition, now, rules)
        case Sign.UNANSWERED:
            failures = condition.failures + 1
            move = Move.FALLEN if failures >= rules.fall else Move.FAILED
            return replace(condition, failures=failures, successes=0), move
        case Sign.SERVED:
            if not (condition.failures or condition.strikes or condition.trials):
                return condition, Move.GOOD
            return replace(condition, failures=0, strikes=0, trials=0), Move.GOOD
        case Sign.BROKEN | Sign.ERRED:
            return _struck(state, condition, sign, rules)
        case Sign.REFUSED:
            return replace(condition, successes=0), Move.DOWN
        case Sign.GPU_LOST:
            return replace(condition, successes=0, gpu_lost=True), Move.DOWN
        case Sign.GPU_FOUND:
            return replace(condition, gpu_lost=False), Move.NONE
        case Sign.RESUME:
            down = condition.down or condition.gpu_lost
            return condition, Move.RESUMED_DOWN if down else Move.RESUMED
        case Sign.WARMED | Sign.NOT_WARMED | Sign.DRAIN:
            return condition, _PLAIN[sign]


_PLAIN = {Sign.WARMED: Move.WARMED, Sign.NOT_WARMED: Move.NOT_WARMED, Sign.DRAIN: Move.DRAIN}


def _answered(state: ReplicaState, condition: Condition, now: float, rules: Rules) -> tuple[Condition, Move]:
    well = replace(condition, failures=0)
    if state is not EJECTED:
        return well, Move.GOOD
    if condition.gpu_lost or now < condition.out_until:
        return replace(well, successes=0), Move.GOOD
    if condition.successes + 1 >= rules.rise:
        return replace(well, successes=0), Move.RISEN
    return replace(well, successes=condition.successes + 1), Move.GOOD


def _struck(state: ReplicaState, condition: Condition, sign: Sign, rules: Rules) -> tuple[Condition, Move]:
    """Where it takes no traffic anyway, what comes is the rest of what was under way: a hundred requests of a frozen
    replica time out together, and are one ejection."""
    if state in (EJECTED, DRAINING):
        return condition, Move.NONE
    strikes = condition.strikes + 1
    if strikes >= rules.fall:
        return replace(condition, strikes=strikes), Move.STRUCK
    return replace(condition, strikes=strikes), Move.FAILED if sign is Sign.BROKEN else Move.NONE
