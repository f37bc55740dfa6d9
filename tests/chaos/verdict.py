"""Whether an answer is the one that is right, or says properly that it is not. Anything else fails."""

import json
from typing import Any

from gateway.emulator import tokens
from gateway.emulator.pooled import pooled
from gateway.emulator.prompts import Served
from tests.chaos.asks import EMBEDDINGS, MESSAGES, RESPONSES, TOKENIZE, Ask
from tests.raw import CHAT, Response

EXACT = "exact"
REFUSED = "refused"
"""A status of 429 or 5xx with OpenAI's error object."""
BROKEN = "broken off"
"""An error event behind a part that is right, and no proper end."""
CUT = "cut"
"""An answer that is not a stream, with its content-length unmet."""
ABORTED = "aborted"
"""A whole answer that says of itself that it is not complete, by `finish_reason: "abort"`."""
UNTOLD = "untold"
"""A Responses stream of a replica that was stopped: it ends as a complete one does (seen on real vLLM)."""

Json = dict[str, Any]
_STOP_REASONS = {"length": "max_tokens", "stop": "end_turn"}


def judge(ask: Ask, response: Response) -> str:
    """One of the words above; AssertionError for an answer that lies."""
    assert response.header("x-request-id") == ask.id
    if response.status != 200:
        assert response.complete
        assert response.error["message"]
        assert response.status == 429 or 500 <= response.status <= 504
        return REFUSED
    assert response.header("x-gateway-replica") in ("r0", "r1", "r2", "r3")
    if not (response.header("content-type") or "").startswith("text/event-stream"):
        return _whole(ask, response)
    events = parse(response.body)
    if response.complete:
        return _ended(ask, events)
    assert events
    error = events[-1]["error"]
    assert {"message", "type"} <= set(error)
    assert error["message"]
    _part(ask, events[:-1])
    return BROKEN


def judge_part(ask: Ask, body: bytes) -> None:
    """What a client got that left in mid-stream: whole events, and of the right text."""
    events = [event for event in parse(body) if event and "error" not in event]
    _part(ask, events)


def parse(body: bytes) -> list[Json]:
    """The events' data; `[DONE]` is an empty one. Half an event is an error."""
    *blocks, rest = body.split(b"\n\n")
    assert rest == b""
    found = []
    for block in blocks:
        *names, data = block.split(b"\n")
        assert data.startswith(b"data: ")
        event = {} if data == b"data: [DONE]" else json.loads(data[6:])
        assert names in ([], [b"event: " + str(event.get("type")).encode()])
        found.append(event)
    return found


def texts(ask: Ask, events: list[Json]) -> dict[int, str]:
    """The joined deltas of each choice."""
    joined: dict[int, str] = {}
    for event in events:
        for index, piece in _pieces(ask, event):
            joined[index] = joined.get(index, "") + piece
    return joined


def _pieces(ask: Ask, event: Json) -> list[tuple[int, str]]:
    if ask.path == RESPONSES:
        return [(0, event["delta"])] if event["type"] == "response.output_text.delta" else []
    if ask.path == MESSAGES:
        return [(0, event["delta"]["text"])] if event["type"] == "content_block_delta" else []
    return [(choice["index"], _piece(choice)) for choice in event.get("choices", ())]


def _piece(choice: Json) -> str:
    if "text" in choice:
        return str(choice["text"])
    calls = choice["delta"].get("tool_calls") or ()
    return str(choice["delta"].get("content") or "") + "".join(call["function"]["arguments"] for call in calls)


def _part(ask: Ask, events: list[Json]) -> None:
    """A beginning of the right answer, and no `[DONE]` in it."""
    assert {} not in events
    for index, told in texts(ask, events).items():
        assert ask.right.answers[index].text.startswith(told)
    _same_frame(ask, events)


def _same_frame(ask: Ask, events: list[Json]) -> None:
    """One id, one time, one model."""
    if ask.path not in (RESPONSES, MESSAGES):
        frames = {(event["id"], event["created"], event["model"], event["object"]) for event in events if event}
        assert len(frames) <= 1
        assert all(ask.id in frame[0] for frame in frames)


def _ended(ask: Ask, events: list[Json]) -> str:
    if ask.path == RESPONSES:
        return _responses(ask, events)
    if ask.path == MESSAGES:
        return _messages(ask, events)
    assert events.pop() == {}
    right = ask.right
    wanted = {index: answer.text for index, answer in enumerate(right.answers)}
    assert texts(ask, events) == wanted
    _same_frame(ask, events)
    for index in wanted:
        _finish(ask, [choice for event in events for choice in event["choices"] if choice["index"] == index], index)
    used = [event["usage"] for event in events if event.get("usage")]
    if "stream_options" in ask.body:
        (usage,) = used
        assert events[-1]["usage"] == usage
        _usage(ask, usage)
    else:
        assert used == []
    _ids(ask, events)
    return EXACT


def _finish(ask: Ask, choices: list[Json], index: int) -> None:
    """One role, at the beginning, and one finish reason, at the end."""
    answer = ask.right.answers[index]
    reason = "tool_calls" if ask.kind == "tools" and answer.finish_reason == "stop" else answer.finish_reason
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + [reason]
    assert choices[-1].get("stop_reason") == answer.stop_reason
    if ask.path == CHAT:
        assert [choice["delta"].get("role") for choice in choices] == ["assistant"] + [None] * (len(choices) - 1)


def _ids(ask: Ask, events: list[Json]) -> None:
    """Each token id once for a client that wants them, none for any other."""
    told = [token for event in events for choice in event["choices"] for token in choice.get("token_ids") or ()]
    assert tuple(told) == (ask.right.ids if ask.body.get("return_token_ids") else ())


def _usage(ask: Ask, usage: Json) -> None:
    prompt, completion = counts(ask)
    told = (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
    assert told == (prompt, completion, prompt + completion)


def counts(ask: Ask) -> tuple[int, int]:
    """Prompt and completion tokens of the right answer."""
    right = ask.right
    return len(right.prompt_ids), sum(len(answer.ids) for answer in right.answers)


def _responses(ask: Ask, events: list[Json]) -> str:
    told, right, last = texts(ask, events).get(0, ""), ask.right, events[-1]
    assert last["type"] == "response.completed"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    status, count = last["response"]["status"], last["response"]["usage"]["output_tokens"]
    if count < len(right.ids):
        assert (told, status) == ("".join(right.answers[0].pieces[:count]), "completed")
        return UNTOLD
    assert (told, count) == (right.text, len(right.ids))
    assert status == ("incomplete" if right.finish_reason == "length" else "completed")
    return EXACT


def _messages(ask: Ask, events: list[Json]) -> str:
    assert texts(ask, events).get(0, "") == ask.right.text
    *_, delta, last = events
    assert last["type"] == "message_stop"
    assert delta["delta"]["stop_reason"] == _STOP_REASONS[ask.right.finish_reason]
    assert delta["usage"]["output_tokens"] == len(ask.right.ids)
    return EXACT


def _whole(ask: Ask, response: Response) -> str:
    if not response.complete:
        return CUT
    assert not ask.stream
    found = json.loads(response.body)
    if ask.path == TOKENIZE:
        assert tuple(found["tokens"]) == tokens.encode(ask.body["prompt"])
    elif ask.path == EMBEDDINGS:
        shape = pooled(ask.path, json.dumps(ask.body).encode(), Served(), ask.id, 0)
        right = json.loads(shape.whole())
        assert (found["data"], found["id"]) == (right["data"], right["id"])
        assert found["usage"]["prompt_tokens"] == right["usage"]["prompt_tokens"]
    else:
        return _generated(ask, found)
    return EXACT


def _generated(ask: Ask, found: Json) -> str:
    (choice,) = found["choices"]
    told, answer = choice["message"]["content"] if ask.path == CHAT else choice["text"], ask.right.answers[0]
    if choice["finish_reason"] == "abort":
        assert told == "".join(answer.pieces[: found["usage"]["completion_tokens"]])
        return ABORTED
    assert (told, choice["finish_reason"]) == (answer.text, answer.finish_reason)
    _usage(ask, found["usage"])
    return EXACT
