"""Which requests may be resumed: those whose answer will be one plain text."""

import json
from typing import Any

import pytest

from gateway.core.bodies import begun_stop, longest_stop
from gateway.core.endpoints import RELAYED
from gateway.core.request import asking_for_ids, parse

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def facts(path: str = CHAT, **fields: Any):
    prompt = {"messages": [{"role": "user", "content": "hi"}]} if path == CHAT else {"prompt": "hi"}
    body = json.dumps({"stream": True, **prompt, **fields}).encode()
    return parse(RELAYED[path.encode()], b"application/json", body)


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 1, "best_of": None, "logprobs": False, "presence_penalty": 0, "frequency_penalty": 0.0, "tools": []},
        {"temperature": 1, "seed": 3, "stop": ["x"], "repetition_penalty": 1.2, "response_format": {"type": "text"}},
        {"stream_options": {"include_usage": True}},
    ],
)
def test_plain_text(path, fields):
    """What is at its default changes nothing."""
    assert facts(path, **fields).resumable


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": False},
        {"n": 2},
        {"best_of": 2},
        {"logprobs": True},
        {"logprobs": 1},
        {"prompt_logprobs": 1},
        {"top_logprobs": 3},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a"}},
        {"guided_json": {}},
        {"presence_penalty": 1},
        {"frequency_penalty": 0.1},
        {"use_beam_search": True},
        {"tools": [{"type": "function"}]},
        {"functions": [{"name": "f"}]},
        {"modalities": ["text", "audio"]},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
        {"messages": [{"role": "user", "content": {"odd": 1}}]},
    ],
)
def test_more_than_plain_text(fields):
    """What it would take to go on rightly is not known elsewhere."""
    assert not facts(**fields).resumable


@pytest.mark.parametrize("content", [None, "", [], [{"type": "text", "text": "a"}], ["a"]])
def test_content_that_is_text(content):
    """In parts or not."""
    assert facts(messages=[{"role": "user", "content": content}]).resumable


@pytest.mark.parametrize(
    ("prompt", "may"), [("a", True), ([1, 2], True), (["a"], False), ([[1]], False), (None, False)]
)
def test_one_prompt(prompt, may):
    """Several prompts have several answers."""
    assert facts(COMPLETION, prompt=prompt).resumable is may


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/audio/speech"])
def test_other_apis(path):
    """Where the cut cannot be told."""
    body = json.dumps({"stream": True, "input": "a", "messages": []}).encode()
    assert not parse(RELAYED[path.encode()], b"application/json", body).resumable


def test_who_asked_for_ids():
    """Only a client that did gets to see them."""
    assert facts(return_token_ids=True).shows_ids
    assert not facts(return_token_ids=False).shows_ids
    assert json.loads(asking_for_ids(b'{"a":{"b":1}} '))["return_token_ids"] is True
    assert json.loads(asking_for_ids(b'{"return_token_ids":false}'))["return_token_ids"] is True


@pytest.mark.parametrize(("stop", "longest"), [(None, 0), ("abc", 3), ([], 0), (["a", "éé"], 2)])
def test_the_longest_stop_string(stop, longest):
    """In characters."""
    assert longest_stop(json.dumps({"stop": stop}).encode()) == longest


@pytest.mark.parametrize(
    ("stop", "told", "begun"),
    [
        (None, "abc", 0),
        ("cde", "abc", 1),
        (["x", "bcd", "cde"], "abc", 2),
        ("abc", "abc", 0),
        (["", "a"], "aaa", 0),
        ("aab", "aa", 2),
    ],
)
def test_a_stop_string_that_has_begun(stop, told, begun):
    """Only the beginning of one, and only where the client is to see it."""
    assert begun_stop(json.dumps({"stop": stop, "include_stop_str_in_output": True}).encode(), told) == begun
    assert begun_stop(json.dumps({"stop": stop}).encode(), told) == 0
