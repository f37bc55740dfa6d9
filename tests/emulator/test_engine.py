"""The engine as its users see it: times, counts and order."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.emulator.engine import EngineModel, EngineParams, Progress
from tests.emulator.engine_lab import H100, TINY, Event, check_books, drain, milestones, play, produced, request


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Bursts and lulls of requests that share prefixes, some of them aborted, all of which fit alone."""
    events: list[Event] = []
    at = 0.0
    names: list[str] = []
    for index in range(draw(st.integers(1, 14))):
        # An odd fraction keeps arrivals off the step boundaries, where rounding would decide.
        at += draw(st.sampled_from([0.0, 0.0013, 0.0131, 0.057, 0.31])) + 1.37e-5
        if names and draw(st.integers(0, 5)) == 0:
            events.append(Event(at, abort=draw(st.sampled_from(names))))
            continue
        prompt = draw(st.integers(1, 250))
        names.append(f"r{index}")
        submit = request(
            names[-1],
            prompt,
            draw(st.integers(1, 384 - prompt if prompt > 200 else 130)),
            topic=draw(st.sampled_from("ab")),
            shared=draw(st.integers(0, 12)),
            priority=draw(st.integers(-1, 1)),
        )
        events.append(Event(at, submit))
    return events


policies = st.sampled_from(["fcfs", "priority"])


@pytest.mark.slow
@given(histories(), policies)
def test_every_request_gets_all_its_tokens_and_gives_everything_back(history: list[Event], policy: str) -> None:
    """Under preemption too. One that is aborted has at most what it asked for."""
    model = EngineModel(TINY, policy=policy)
    reports = play(model, history)
    tokens = produced(reports)
    aborted = {event.abort for event in history}
    finished = {report.request_id for report in reports if report.finished}
    for event in history:
        if event.submit is None:
            continue
        name = event.submit.id
        assert tokens[name] <= event.submit.max_tokens
        if name not in aborted:
            assert name in finished
        if name in finished:
            assert tokens[name] == event.submit.max_tokens
    assert (model.kv_usage, model.running, model.waiting) == (0.0, 0, 0)
    assert [report.at for report in reports] == sorted(report.at for report in reports)


@pytest.mark.slow
@settings(max_examples=300)
@given(histories(), policies)
def test_passing_over_steps_changes_no_time_and_no_count(history: list[Event], policy: str) -> None:
    """First tokens, finishes, cached tokens and gauges are those of the exact mode at every event."""
    exact = EngineModel(TINY, policy=policy)
    quick = EngineModel(TINY, policy=policy, milestones_only=True)
    seen: tuple[list[Progress], list[Progress]] = ([], [])
    for event in history:
        for model, reports in zip((exact, quick), seen, strict=True):
            reports += model.advance(event.at)
            if event.submit is not None:
                model.submit(event.submit, event.at)
            else:
                model.abort(event.abort, event.at)
        check_books(quick)
        assert gauges(quick) == gauges(exact)
    for model, reports in zip((exact, quick), seen, strict=True):
        reports += drain(model)
    assert gauges(quick) == gauges(exact)
    expected, found = milestones(seen[0]), milestones(seen[1])
    assert found.keys() == expected.keys()
    for name, times in found.items():
        assert times == pytest.approx(expected[name], rel=1e-9)
    cached = {report.request_id: report.cached_tokens for report in seen[0]}
    assert all(report.cached_tokens == cached[report.request_id] for report in seen[1])
    finished = {report.request_id for report in seen[0] if report.finished}
    exact_tokens, quick_tokens = produced(seen[0]), produced(seen[1])
    assert all(quick_tokens[name] == exact_tokens[name] for name in finished)


def gauges(model: EngineModel) -> tuple[float, ...]:
    return (
        model.running,
        model.waiting,
        model.kv_usage,
        model.preemptions,
        model.prefix_queries_tokens,
        model.prefix_hits_tokens,
    )


def test_a_stretch_is_one_jump_and_a_submit_cuts_it_at_the_end_of_the_step() -> None:
    """The driver asks `next_at` again after a submit."""
    model = EngineModel(H100, milestones_only=True)
    model.submit(request("long", 100, 400), 0.0)
    first = model.next_at()
    assert first is not None
    assert [report.tokens for report in model.advance(first)] == [1]
    end = model.next_at()
    assert end is not None
    assert end - first > 399 * 0.0067
    model.submit(request("next", 100, 5), first + 0.020)
    cut = model.next_at()
    assert cut is not None
    assert first + 0.020 < cut < first + 0.028
    assert model.advance(cut) == []
    assert model.running == 2


def test_the_steps_of_a_burst_take_what_the_parameters_say() -> None:
    """One prefill step and one decode step, computed by hand."""
    model = EngineModel(H100)
    model.submit(request("a", 1000, 2), 1.0)
    prefill, decode = drain(model)
    assert prefill.at - 1.0 == pytest.approx(0.001 + 1000 * 23e-6 + 12e-6 + 1000 * 500 * 1.05e-9)
    assert decode.at - prefill.at == pytest.approx(0.001 + 5.7e-3 + 12e-6 + 1001 * 48e-9)
    assert (prefill.finished, decode.finished) == (False, True)


def test_a_prefix_hit_lowers_ttft() -> None:
    """Whole blocks, and the last token of the prompt is computed even when all of it is cached."""
    model = EngineModel(H100)
    model.submit(request("a", 1600, 1, topic="t", shared=100), 0.0)
    (cold,) = drain(model)
    model.submit(request("b", 1600, 1, topic="t", shared=100), 10.0)
    (warm,) = drain(model)
    assert (cold.cached_tokens, warm.cached_tokens) == (0, 1584)
    assert warm.at - 10.0 < cold.at / 3
    assert (model.prefix_queries_tokens, model.prefix_hits_tokens) == (3200, 1584)


def test_the_next_turn_hits_the_reply() -> None:
    """Generated tokens fill blocks too; the last one is never computed, so its block is not there."""
    model = EngineModel(H100)
    first = request("a", 200, 200)
    model.submit(first, 0.0)
    drain(model)
    turn = replace(first, id="b", blocks=first.blocks + first.output_blocks, prompt_tokens=410, output_blocks=())
    model.submit(turn, 50.0)
    assert drain(model)[0].cached_tokens == 384


def test_two_in_one_step_share_a_prefix() -> None:
    """vLLM caches blocks when it schedules them, before they are computed."""
    model = EngineModel(H100)
    model.submit(request("first", 16, 1), 0.0)
    for name in "ab":
        model.submit(request(name, 320, 1, topic="t", shared=20), 0.001)
    reports = {report.request_id: report for report in drain(model)}
    assert reports["a"].at == reports["b"].at
    assert (reports["a"].cached_tokens, reports["b"].cached_tokens) == (0, 304)


def test_reset_cache_forgets() -> None:
    model = EngineModel(H100)
    for name, at in (("a", 0.0), ("b", 10.0)):
        model.submit(request(name, 320, 1, topic="t", shared=20), at)
        assert drain(model)[0].cached_tokens == 0
        model.reset_cache()


def test_first_come_first_served() -> None:
    """With room for one, they finish in the order of arrival whatever their priority."""
    model = EngineModel(replace(H100, max_sequences=1))
    for index, priority in enumerate([0, 5, -5, 1]):
        model.submit(request(f"r{index}", priority=priority), 0.0)
    assert [report.request_id for report in drain(model) if report.finished] == ["r0", "r1", "r2", "r3"]


def test_by_priority_then_arrival() -> None:
    """As seen with real vLLM: the queued ones finish in the order of their priority, the lowest first."""
    model = EngineModel(replace(H100, max_sequences=1), policy="priority")
    model.submit(request("running", priority=9), 0.0)
    for priority in (5, 0, 9, -5, 3, 1):
        model.submit(request(f"p{priority}", priority=priority), 0.001)
    model.submit(request("later", priority=0), 0.002)
    order = [report.request_id for report in drain(model) if report.finished]
    assert order == ["running", "p-5", "p0", "later", "p1", "p3", "p5", "p9"]


def test_a_long_prompt_is_cut_and_decodes_go_on() -> None:
    """Each chunk is one step, in which the other still gets its token."""
    model = EngineModel(H100)
    model.submit(request("chat", 100, 50), 0.0)
    model.advance(0.05)
    model.submit(request("long", 20_000, 1), 0.05)
    reports = drain(model)
    last = next(report.at for report in reports if report.request_id == "long")
    before = [report for report in reports if report.request_id == "chat" and report.at <= last]
    assert len(before) == 1 + 3
    assert before[-1].at == last


@pytest.mark.parametrize(("clock", "memory"), [(0.4, 1.0), (1.0, 0.5), (0.4, 0.5)])
def test_throttling_slows_each_term_in_proportion(clock: float, memory: float) -> None:
    """The clock slows what computes, memory what reads; both by 1 / speed, from the next step on."""

    def gaps(model: EngineModel) -> tuple[float, float]:
        model.submit(request("a", 1000, 3), 0.0)
        end = model.next_at()
        assert end is not None
        one, two = (report.at for report in drain(model)[1:])
        return end, two - one

    model = EngineModel(H100)
    model.throttle(clock=clock, memory=memory)
    prefill, decode = gaps(model)
    nominal_prefill, _ = gaps(EngineModel(H100))
    assert prefill == pytest.approx(nominal_prefill / clock)
    assert decode == pytest.approx(0.001012 / clock + (5.7e-3 + 1002 * 48e-9) / memory)


def test_throttling_cuts_a_stretch_after_the_last_now() -> None:
    """Both modes change speed at the same step."""
    finishes = []
    for milestones_only in (False, True):
        model = EngineModel(H100, milestones_only=milestones_only)
        model.submit(request("a", 100, 100), 0.0)
        model.advance(0.2)
        model.throttle(clock=0.4)
        model.advance(0.3)
        model.throttle()
        finishes.append(drain(model)[-1].at)
    assert finishes[1] == pytest.approx(finishes[0], rel=1e-12)
    with pytest.raises(ValueError, match="positive"):
        model.throttle(clock=0.0)


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_a_full_cache_preempts_the_last_and_it_still_gets_its_tokens(policy: str) -> None:
    """Three that fit with their prompts and not with their outputs: the first is never the victim."""
    model = EngineModel(TINY, policy=policy)
    for index, name in enumerate("abc"):
        model.submit(request(name, 100, 100, priority=index), 0.0)
    reports = drain(model)
    assert model.preemptions > 0
    assert produced(reports) == {"a": 100, "b": 100, "c": 100}
    assert [report.request_id for report in reports if report.finished] == ["a", "b", "c"]
    times = [report.at for report in reports if report.request_id == "a"]
    assert max(later - earlier for earlier, later in pairwise(times)) < 0.012


def test_priority_preempts_the_least_important_not_the_last() -> None:
    model = EngineModel(TINY, policy="priority")
    for name, priority in (("a", 2), ("b", 1), ("c", 0)):
        model.submit(request(name, 100, 100, priority=priority), 0.0)
    assert [report.request_id for report in drain(model) if report.finished] == ["c", "b", "a"]


def test_a_preempted_request_hits_its_own_blocks_when_it_resumes() -> None:
    """Its blocks stay cached until someone takes them; the counters of the first time do not move."""
    model = EngineModel(TINY)
    model.submit(request("a", 100, 150), 0.0)
    model.submit(request("b", 100, 100), 0.0)
    drain(model)
    assert model.preemptions == 1
    assert (model.prefix_queries_tokens, model.prefix_hits_tokens) == (200, 0)


def test_an_abort_in_mid_step_frees_blocks_for_the_next() -> None:
    """The step goes on; the one that waited for room starts when it has ended."""
    model = EngineModel(TINY)
    model.submit(request("big", 300, 20), 0.0)
    model.submit(request("next", 200, 1), 0.0)
    model.advance(0.06)
    assert (model.running, model.waiting) == (1, 1)
    end = model.next_at()
    assert end is not None
    model.abort("big", end - 0.001)
    assert (model.running, model.waiting, model.kv_usage) == (0, 1, 0.0)
    assert model.next_at() == end
    model.advance(end)
    assert (model.running, model.waiting) == (1, 0)
    model.abort("nobody", end)
    assert [report.request_id for report in drain(model)] == ["next"]


def test_the_itl_summary_tells_what_the_exact_mode_does() -> None:
    """One gap for each token but the first, preempted time included."""
    history = [Event(0.001 * i, request(f"r{i}", 100, 60 + 7 * i)) for i in range(5)]
    exact = play(EngineModel(TINY), history)
    quick = EngineModel(TINY, milestones_only=True)
    play(quick, history)
    last: dict[str, float] = {}
    gaps = []
    for report in exact:
        if report.request_id in last:
            gaps.append(report.at - last[report.request_id])
        last[report.request_id] = report.at
    gaps.sort()
    summary = quick.itl()
    assert quick.preemptions > 0
    assert summary.count == len(gaps)
    assert summary.longest_s == pytest.approx(gaps[-1])
    assert summary.quantile(0.5) == pytest.approx(gaps[len(gaps) // 2], rel=0.01)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (request("x", 380, 5), "exceed"),
        (request("x", 10, 0), "at least 1"),
        (replace(request("x", 40), blocks=(1, 2, 3)), "3 full blocks"),
        (request("in", 10, 1), "already"),
    ],
)
def test_what_can_never_run_is_refused(wrong: object, match: str) -> None:
    model = EngineModel(TINY)
    model.submit(request("in", 10, 300), 0.0)
    with pytest.raises(ValueError, match=match):
        model.submit(wrong, 0.0)  # type: ignore[arg-type]
    assert (model.running, model.waiting) == (1, 0)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="8b-h100, 70b-fp8-2h100"):
        EngineParams.named("9b")
    with pytest.raises(ValueError, match="fcfs, priority"):
        EngineModel(H100, policy="lifo")


@pytest.mark.parametrize("milestones_only", [False, True])
def test_the_time_at_work_is_that_of_its_steps(milestones_only: bool) -> None:
    """From submit to finish, whether or not steps are passed over; it stands still while there is nothing to do."""
    model = EngineModel(H100, milestones_only=milestones_only)
    assert model.busy_s(3.0) == 0
    model.submit(request("a", 100, 50), 3.0)
    assert model.busy_s(3.001) == pytest.approx(0.001)
    finish = drain(model)[-1].at
    assert model.busy_s(finish + 10) == pytest.approx(finish - 3.0)
    model.submit(request("b", 100, 50), 20.0)
    assert model.busy_s(20.004) == pytest.approx(finish - 3.0 + 0.004)
