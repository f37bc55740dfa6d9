import msgspec

from gateway.observability.records import RequestRecord


def test_a_record_has_the_fields_of_the_contract():
    """The line's names are those that log readers were promised, with nothing that could hold a prompt or a key."""
    line = msgspec.to_builtins(RequestRecord(time=1.5, request_id="id-1"))
    assert set(line) == {
        *("time", "request_id", "path", "tenant", "class", "model", "replica", "replicas", "reason", "attempts"),
        *("resumed", "status", "error", "stream", "prompt_tokens", "cached_tokens", "completion_tokens"),
        *("queue_s", "ttft_s", "tpot_s", "duration_s", "bytes", "disconnected"),
    }


def test_what_is_not_known_is_none():
    """Durations and token counts that were not measured are None, never 0."""
    record = RequestRecord(time=1.5, request_id="id-1")
    measured = (record.queue_s, record.ttft_s, record.tpot_s, record.duration_s, record.prompt_tokens)
    assert measured == (None,) * 5
    assert (record.tenant, record.class_) == ("default", "standard")
