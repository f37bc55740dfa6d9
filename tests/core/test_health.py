"""The state machine: its table in full, the counts that feed it, and what holds whatever comes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.health import HOLD_S, MAX_HOLD_S, MOVES, Move, Rules, hold_s, step
from gateway.core.types import Condition, ReplicaState, Sign

READY, WARMING, SUSPECT, EJECTED, DRAINING = ReplicaState
RULES, FRESH = Rules(fall=3, rise=2), Condition()
S = Sign

TABLE = {
    #                    suspect   ready     warming   ejected   draining
    Move.GOOD:         (READY,    READY,    WARMING,  EJECTED,  DRAINING),
    Move.RISEN:        (SUSPECT,  READY,    WARMING,  WARMING,  DRAINING),
    Move.FAILED:       (SUSPECT,  SUSPECT,  WARMING,  EJECTED,  DRAINING),
    Move.FALLEN:       (EJECTED,  EJECTED,  EJECTED,  EJECTED,  DRAINING),
    Move.STRUCK:       (EJECTED,  EJECTED,  EJECTED,  EJECTED,  DRAINING),
    Move.DOWN:         (EJECTED,  EJECTED,  EJECTED,  EJECTED,  DRAINING),
    Move.WARMED:       (SUSPECT,  READY,    READY,    EJECTED,  DRAINING),
    Move.NOT_WARMED:   (SUSPECT,  READY,    EJECTED,  EJECTED,  DRAINING),
    Move.DRAIN:        (DRAINING, DRAINING, DRAINING, DRAINING, DRAINING),
    Move.RESUMED:      (SUSPECT,  READY,    WARMING,  EJECTED,  READY),
    Move.RESUMED_DOWN: (SUSPECT,  READY,    WARMING,  EJECTED,  EJECTED),
    Move.NONE:         (SUSPECT,  READY,    WARMING,  EJECTED,  DRAINING),
}  # fmt: skip
ROWS = (SUSPECT, READY, WARMING, EJECTED, DRAINING)


@pytest.mark.parametrize("move", Move)
def test_each_state_and_move(move: Move) -> None:
    """The table, with the moves that change nothing written out."""
    assert tuple(MOVES[state].get(move, state) for state in ROWS) == TABLE[move]


def run(
    state: ReplicaState, *signs: Sign, condition: Condition = FRESH, now: float = 100.0, rules: Rules = RULES
) -> tuple[ReplicaState, Condition]:
    for sign in signs:
        state, condition = step(state, condition, sign, now, rules)
    return state, condition


@pytest.mark.parametrize(
    ("state", "signs", "then"),
    [
        (SUSPECT, [S.ANSWERED], READY),
        (SUSPECT, [S.UNANSWERED, S.UNANSWERED, S.ANSWERED], READY),
        (SUSPECT, [S.UNANSWERED] * 3, EJECTED),
        (READY, [S.UNANSWERED], SUSPECT),
        (READY, [S.UNANSWERED] * 2, SUSPECT),
        (READY, [S.UNANSWERED] * 3, EJECTED),
        (READY, [S.UNANSWERED, S.ANSWERED, S.UNANSWERED, S.UNANSWERED], SUSPECT),
        (READY, [S.REFUSED], EJECTED),
        (SUSPECT, [S.REFUSED], EJECTED),
        (READY, [S.BROKEN], SUSPECT),
        (READY, [S.BROKEN, S.ANSWERED], READY),
        (READY, [S.BROKEN, S.SERVED], READY),
        (READY, [S.UNANSWERED, S.SERVED], READY),
        (READY, [S.UNANSWERED, S.UNANSWERED, S.SERVED] * 3, READY),
        (READY, [S.SERVED, S.UNANSWERED, S.UNANSWERED, S.UNANSWERED], EJECTED),
        (READY, [S.UNANSWERED, S.UNANSWERED, S.SERVED, S.UNANSWERED], SUSPECT),
        (EJECTED, [S.ANSWERED, S.UNANSWERED, S.SERVED, S.ANSWERED], EJECTED),
        (READY, [S.BROKEN] * 3, EJECTED),
        (READY, [S.ERRED] * 2, READY),
        (READY, [S.ERRED] * 3, EJECTED),
        (READY, [S.ERRED, S.ANSWERED, S.ERRED, S.ANSWERED, S.ERRED], EJECTED),
        (READY, [S.ERRED, S.ERRED, S.SERVED, S.ERRED, S.ERRED], READY),
        (READY, [S.ERRED, S.BROKEN, S.ERRED], EJECTED),
        (EJECTED, [S.ANSWERED], EJECTED),
        (EJECTED, [S.ANSWERED] * 2, WARMING),
        (EJECTED, [S.ANSWERED, S.UNANSWERED, S.ANSWERED], EJECTED),
        (EJECTED, [S.ANSWERED, S.REFUSED, S.ANSWERED], EJECTED),
        (EJECTED, [S.SERVED] * 9, EJECTED),
        (EJECTED, [S.ANSWERED] * 2 + [S.WARMED], READY),
        (WARMING, [S.ANSWERED, S.UNANSWERED, S.UNANSWERED, S.WARMED], READY),
        (WARMING, [S.UNANSWERED] * 3 + [S.WARMED], EJECTED),
        (WARMING, [S.REFUSED, S.WARMED], EJECTED),
        (WARMING, [S.NOT_WARMED], EJECTED),
        (READY, [S.GPU_LOST], EJECTED),
        (READY, [S.GPU_LOST] + [S.ANSWERED] * 9, EJECTED),
        (READY, [S.GPU_LOST] + [S.ANSWERED] * 9 + [S.GPU_FOUND, S.ANSWERED, S.ANSWERED], WARMING),
        (READY, [S.DRAIN] + [S.REFUSED, S.UNANSWERED, S.ERRED, S.BROKEN, S.GPU_LOST, S.SERVED] * 5, DRAINING),
        (READY, [S.DRAIN, S.ANSWERED, S.RESUME], READY),
        (READY, [S.DRAIN, S.UNANSWERED, S.RESUME], READY),
        (READY, [S.DRAIN, S.REFUSED, S.ANSWERED, S.ANSWERED, S.RESUME], EJECTED),
        (READY, [S.DRAIN] + [S.UNANSWERED] * 3 + [S.ANSWERED, S.RESUME], EJECTED),
        (READY, [S.DRAIN, S.GPU_LOST, S.RESUME], EJECTED),
        (WARMING, [S.REFUSED, S.DRAIN, S.RESUME], EJECTED),
        (READY, [S.RESUME], READY),
        (EJECTED, [S.RESUME], EJECTED),
    ],
)  # fmt: skip
def test_what_signs_amount_to(state: ReplicaState, signs: list[Sign], then: ReplicaState) -> None:
    """Rows of signs in each state, with fall 3 and rise 2."""
    assert run(state, *signs)[0] is then


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fall_and_rise_are_counts(count: int) -> None:
    """So many in a row, not one less."""
    rules = Rules(fall=count, rise=count)
    for sign in (S.UNANSWERED, S.ERRED, S.BROKEN):
        assert run(READY, *[sign] * (count - 1), rules=rules)[0] is not EJECTED
        assert run(READY, *[sign] * count, rules=rules)[0] is EJECTED
    assert run(EJECTED, *[S.ANSWERED] * (count - 1), rules=rules)[0] is EJECTED
    assert run(EJECTED, *[S.ANSWERED] * count, rules=rules)[0] is WARMING


def test_probes_wait_when_requests_put_it_out() -> None:
    """A frozen engine behind a good /health does not come back with the next two probes."""
    state, condition = run(READY, *[S.ERRED] * 3)
    assert (condition.trials, condition.out_until, condition.down) == (1, 100.0 + HOLD_S, True)
    assert run(state, *[S.ANSWERED] * 9, condition=condition, now=100.0 + HOLD_S - 0.1)[0] is EJECTED
    assert run(state, *[S.ANSWERED] * 2, condition=condition, now=100.0 + HOLD_S)[0] is WARMING


def test_the_wait_doubles_until_a_request_is_served() -> None:
    """And is bounded; an answer to a request sets it back."""
    waits = []
    state, condition, now = READY, Condition(), 0.0
    for _ in range(8):
        state, condition = run(state, *[S.ERRED] * 3, condition=condition, now=now)
        waits.append(condition.out_until - now)
        now = condition.out_until
        state, condition = run(state, S.ANSWERED, S.ANSWERED, S.WARMED, condition=condition, now=now)
        assert state is READY
    assert waits == [5, 10, 20, 40, MAX_HOLD_S, MAX_HOLD_S, MAX_HOLD_S, MAX_HOLD_S]
    state, condition = run(state, S.SERVED, *[S.ERRED] * 3, condition=condition, now=now)
    assert condition.out_until - now == HOLD_S
    assert hold_s(10**6) == MAX_HOLD_S


@pytest.mark.parametrize("signs", [[S.REFUSED], [S.UNANSWERED] * 3, [S.GPU_LOST, S.GPU_FOUND]])
def test_probes_count_at_once_when_no_request_speaks_against_them(signs: list[Sign]) -> None:
    """A replica that was killed is back after `rise` good probes and its warm-up."""
    state, condition = run(READY, *signs)
    assert run(state, S.ANSWERED, S.ANSWERED, condition=condition)[0] is WARMING


def test_what_was_under_way_is_one_ejection() -> None:
    """A hundred requests of a frozen replica time out together: it waits as long as for three."""
    assert run(READY, *[S.ERRED] * 100) == run(READY, *[S.ERRED] * 3)


def test_a_warm_up_that_fails_puts_it_out_for_longer() -> None:
    """What came back had been put out for its requests before."""
    state, condition = run(READY, *[S.ERRED] * 3)
    now = condition.out_until
    state, condition = run(state, S.ANSWERED, S.ANSWERED, S.NOT_WARMED, condition=condition, now=now)
    assert (state, condition.trials, condition.out_until) == (EJECTED, 2, now + 2 * HOLD_S)


def test_down_is_over_once_it_is_ready() -> None:
    """A drain that comes later is not held against it."""
    state, condition = run(READY, S.REFUSED, S.ANSWERED, S.ANSWERED, S.WARMED)
    assert (state, condition.down) == (READY, False)
    assert run(state, S.DRAIN, S.RESUME, condition=condition)[0] is READY


@pytest.mark.parametrize(("state", "sign"), [(READY, S.SERVED), (SUSPECT, S.DRAIN), (READY, S.RESUME)])
def test_nothing_new_is_the_same_object(state: ReplicaState, sign: Sign) -> None:
    """So that the hot path makes no new snapshot for each request that is served."""
    condition = Condition()
    assert step(state, condition, sign, 1.0, RULES)[1] is condition


SIGNS = st.lists(st.tuples(st.sampled_from(Sign), st.floats(0, 20)), max_size=60)
ALL_RULES = st.builds(Rules, fall=st.integers(1, 4), rise=st.integers(1, 4))
Path = list[tuple[ReplicaState, Condition, Sign, ReplicaState]]


def path(signs: list[tuple[Sign, float]], rules: Rules, start: ReplicaState = SUSPECT) -> Path:
    """Each step: the state and condition before it, the sign, the state after it."""
    steps: Path = []
    state, condition, now = start, Condition(), 0.0
    for sign, seconds in signs:
        now += seconds
        after, changed = step(state, condition, sign, now, rules)
        steps.append((state, condition, sign, after))
        state, condition = after, changed
    return steps


@given(SIGNS, ALL_RULES)
def test_only_failures_eject(signs: list[tuple[Sign, float]], rules: Rules) -> None:
    """Every ejection has its cause in the very sign: a failure, a lost GPU, or a drain of one that was down."""
    causes = {S.UNANSWERED, S.REFUSED, S.BROKEN, S.ERRED, S.GPU_LOST, S.NOT_WARMED}
    for before, condition, sign, after in path(signs, rules):
        if after is EJECTED and before is not EJECTED:
            assert sign in causes or (
                sign is S.RESUME and before is DRAINING and (condition.down or condition.gpu_lost)
            )


@given(SIGNS, ALL_RULES)
def test_a_drain_ends_by_command_only(signs: list[tuple[Sign, float]], rules: Rules) -> None:
    """Nothing else ends it, and every replica can be drained."""
    for before, _, sign, after in path(signs, rules):
        assert before is not DRAINING or sign is S.RESUME or after is DRAINING
        assert sign is not S.DRAIN or after is DRAINING


@given(SIGNS, ALL_RULES)
def test_who_was_out_is_warmed_first(signs: list[tuple[Sign, float]], rules: Rules) -> None:
    """No way leads from ejected to ready but through warming, or a drain begun before; and none while a GPU is lost."""
    for before, condition, _, after in path(signs, rules):
        if before is EJECTED:
            assert after in (EJECTED, WARMING, DRAINING)
        if before is EJECTED and after is WARMING:
            assert not condition.gpu_lost
        if before is DRAINING and after is READY:
            assert not condition.down


@given(SIGNS, ALL_RULES)
def test_a_refused_connection_is_the_last_one(signs: list[tuple[Sign, float]], rules: Rules) -> None:
    """After it the replica is out, or draining."""
    for _, _, sign, after in path(signs, rules):
        assert sign is not S.REFUSED or after in (EJECTED, DRAINING)


@given(SIGNS, ALL_RULES)
def test_whatever_came_it_can_come_back(signs: list[tuple[Sign, float]], rules: Rules) -> None:
    """An hour later, with its GPUs there: `rise` good probes and a warm-up make it ready."""
    state, condition = SUSPECT, Condition()
    for sign, seconds in signs:
        state, condition = step(state, condition, sign, seconds, rules)
    back = [S.GPU_FOUND, S.RESUME, *[S.ANSWERED] * rules.rise, S.WARMED]
    assert run(state, *back, condition=condition, now=3600.0, rules=rules)[0] is READY


@given(SIGNS, ALL_RULES, st.sampled_from([S.SERVED, S.ANSWERED]))
def test_good_signs_do_no_harm(signs: list[tuple[Sign, float]], rules: Rules, good: Sign) -> None:
    """A served request or a good probe never leads away from ready, nor out."""
    trust = {READY: 0, WARMING: 1, SUSPECT: 1, EJECTED: 2}
    for before, condition, _, _ in path(signs, rules):
        after, _ = step(before, condition, good, 1e6, rules)
        assert before is after is DRAINING or trust[after] <= trust[before]


def test_the_condition_is_plain_data() -> None:
    """Two that are equal lead to equal states."""
    assert replace(Condition(), failures=1) == run(READY, S.UNANSWERED)[1]
