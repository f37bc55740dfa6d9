from gateway.core.timeline import Timeline


def test_nothing_is_known_at_the_start():
    """Figures whose marks are missing are None, never 0."""
    timeline = Timeline(10.0, 10.5)
    assert (timeline.ttft_s, timeline.queue_s, timeline.duration_s, timeline.tpot_s(5)) == (None, None, None, None)


def test_ttft_runs_from_the_first_byte_read():
    """TTFT holds the reading and the waiting, and later output does not change it."""
    timeline = Timeline(10.0, 10.5)
    assert timeline.output(12.0) is None
    assert timeline.output(13.0) == 1.0
    assert timeline.ttft_s == 2.0


def test_itl_is_the_gap_between_two_outputs():
    """Each output tells the time since the one before."""
    timeline = Timeline(0.0, 0.0)
    assert [timeline.output(now) for now in (1.0, 1.25, 1.75)] == [None, 0.25, 0.5]


def test_tpot_is_the_mean_after_the_first_token():
    """First to last output, over all tokens but the first."""
    timeline = Timeline(0.0, 0.0)
    timeline.output(1.0)
    timeline.output(3.0)
    assert timeline.tpot_s(5) == 0.5


def test_tpot_needs_two_tokens_and_a_count():
    """With one token, none, or no count there is no time per further token."""
    timeline = Timeline(0.0, 0.0)
    timeline.output(1.0)
    assert [timeline.tpot_s(tokens) for tokens in (None, 0, 1)] == [None, None, None]


def test_queue_and_duration():
    """The queue runs from the request read to its dispatch, the duration from its first byte to its end."""
    timeline = Timeline(10.0, 10.5)
    timeline.dispatched_at = 11.0
    timeline.ended_at = 14.0
    assert timeline.queue_s == 0.5
    assert timeline.duration_s == 4.0
