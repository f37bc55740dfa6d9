from dataclasses import dataclass

import msgspec

from gateway.observability.access_log import MAX_WAITING_LINES, AccessLog
from gateway.observability.records import RequestRecord


def record(request_id: str) -> RequestRecord:
    return RequestRecord(time=1.5, request_id=request_id)


def test_a_record_is_one_line_of_json():
    """Lines come out in order, whole, and once."""
    written: list[bytes] = []
    log = AccessLog(written.append)
    log.add(record("a"))
    log.add(record("line\nbreak"))
    log.flush()
    log.flush()
    assert len(written) == 1
    lines = written[0].split(b"\n")
    assert lines.pop() == b""
    assert [msgspec.json.decode(line)["request_id"] for line in lines] == ["a", "line\nbreak"]
    assert msgspec.json.decode(lines[0])["class"] == "standard"


def test_nothing_is_written_before_the_flush():
    """The hot path only collects, and without lines nothing is written."""
    written: list[bytes] = []
    log = AccessLog(written.append)
    log.flush()
    log.add(record("a"))
    assert written == []


def test_lines_beyond_the_limit_are_counted():
    """A log that nobody reads stops growing, and goes on after a flush."""
    written: list[bytes] = []
    log = AccessLog(written.append)
    for _ in range(MAX_WAITING_LINES + 2):
        log.add(record("a"))
    assert log.dropped == 2
    log.flush()
    log.add(record("b"))
    log.flush()
    assert (log.dropped, written[0].count(b"\n"), written[1].count(b"\n")) == (2, MAX_WAITING_LINES, 1)


def test_a_flush_in_the_middle_of_an_add_loses_nothing():
    """A line was lost when the flushing thread took over while the loop's was encoding it."""
    written: list[bytes] = []
    log = AccessLog(written.append)

    @dataclass(slots=True)
    class Late:
        text: str

    def flushed_meanwhile(self: Late) -> str:
        log.flush()
        return "late"

    late = Late("late")
    Late.text = property(flushed_meanwhile)  # read while the line is encoded, as the other thread may cut in
    log.add(record("early"))
    log.add(RequestRecord(time=1.5, request_id="late", error=late))
    log.flush()
    assert [msgspec.json.decode(line)["request_id"] for line in b"".join(written).splitlines()] == ["early", "late"]
