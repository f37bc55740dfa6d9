"""The judge of the chaos suite condemns what it should: a suite that lets everything pass would pass, too."""

from collections.abc import Callable
from random import Random

import pytest

from gateway.emulator.chat import Chat
from gateway.emulator.prompts import Served, chat
from tests.chaos.asks import STREAM, USAGE, Ask
from tests.chaos.asks import chat as asked
from tests.chaos.verdict import BROKEN, EXACT, REFUSED, judge
from tests.raw import CHAT, Response

DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"it died","type":"server_error","param":null,"code":"replica_failed"}}\n\n'


def answered(wants_usage: bool = True) -> tuple[Ask, list[bytes]]:
    """A request, and the events of its right answer, one a token."""
    ask = Ask("c0", "chat", CHAT, asked(Random(1), **(USAGE if wants_usage else STREAM)))
    shape = Chat(chat(ask.raw.split(b"\r\n\r\n", 1)[1], Served()), ask.id, 1)
    told = b"".join([shape.tokens(0, 1) for _ in shape.answers[0].ids]) + shape.closing()
    return ask, [block + b"\n\n" for block in told.split(b"\n\n")[:-1]]


def told(events: list[bytes], *, status: int = 200, complete: bool = True) -> Response:
    headers = [("x-request-id", "c0"), ("x-gateway-replica", "r0"), ("content-type", "text/event-stream")]
    return Response(status, headers, b"".join(events), complete=complete)


def test_the_right_answer_is_exact() -> None:
    """And a part of it before an error event is properly broken off."""
    for wants_usage in (True, False):
        ask, events = answered(wants_usage)
        assert judge(ask, told(events)) == EXACT
    assert judge(ask, told([*events[:7], ERROR], complete=False)) == BROKEN
    assert judge(ask, told([ERROR[6:-2]], status=502)) == REFUSED


LIES: dict[str, Callable[[list[bytes]], Response]] = {
    "a token is lost": lambda events: told(events[:5] + events[6:]),
    "a token comes twice": lambda events: told(events[:5] + events[4:]),
    "two roles": lambda events: told(events[:1] + events),
    "no usage": lambda events: told([*events[:-2], DONE]),
    "two ends": lambda events: told([*events[:-3], events[-3], *events[-3:]]),
    "no [DONE]": lambda events: told(events[:-1]),
    "cut without a word": lambda events: told(events[:6], complete=False),
    "an error, and [DONE]": lambda events: told([*events[:6], ERROR, DONE], complete=False),
    "an error at a good end": lambda events: told([*events[:6], ERROR]),
    "half an event before the error": lambda events: told([*events[:6], events[6][:30], ERROR], complete=False),
    "another id": lambda events: told([*events[:4], events[4].replace(b"chatcmpl-c0", b"chatcmpl-c1"), *events[5:]]),
    "wrong text before the error": lambda events: told([*events[:4], *events[5:9], ERROR], complete=False),
    "an end that says `abort`": lambda events: told(
        [event.replace(b'"finish_reason":"length"', b'"finish_reason":"abort"') for event in events]
    ),
    "a 400": lambda events: told([ERROR[6:-2]], status=400),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found(lie: str) -> None:
    """Whatever kind it is."""
    ask, events = answered()
    with pytest.raises((AssertionError, KeyError, ValueError)):
        judge(ask, LIES[lie](events))
