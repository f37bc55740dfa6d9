"""Bodies tell their path, as far as they can."""

import pytest

from gateway.core.guess import endpoint_of
from gateway.errors import BadRequest

JSON = b"application/json"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"messages":[]}', "/v1/chat/completions"),
        (b'{"messages":[],"system":"s"}', "/v1/messages"),
        (b'{"messages":[],"stop_sequences":[]}', "/v1/messages"),
        (b'{"prompt":"x"}', "/v1/completions"),
        (b'{"input":"x"}', "/v1/responses"),
        (b'{"input": [ {"role":"user"}]}', "/v1/responses"),
        (b'{"input": [ "a", "b"]}', "/v1/embeddings"),
        (b'{"input":[1,2]}', "/v1/embeddings"),
        (b'{"input":"x","dimensions":3}', "/v1/embeddings"),
        (b'{"input":"x","encoding_format":"float"}', "/v1/embeddings"),
        (b'{"query":"q","documents":[]}', "/v1/rerank"),
        (b'{"text_1":"a","text_2":"b"}', "/v1/score"),
    ],
)
def test_a_body_gives_its_path_away(body: bytes, path: str) -> None:
    """By the fields that only this API has."""
    assert endpoint_of(None, JSON, body).path == path


def test_a_form_is_a_transcription() -> None:
    """The only forms that are relayed are audio."""
    assert endpoint_of(None, b"multipart/form-data; boundary=x", b"--x").path == "/v1/audio/transcriptions"


def test_the_path_that_is_given_counts() -> None:
    """Whatever the body looks like; it is read later."""
    assert endpoint_of("/v1/embeddings", JSON, b"not json").path == "/v1/embeddings"


@pytest.mark.parametrize(
    ("path", "body", "message", "param"),
    [
        (
            "/v1/chat/completion",
            b"{}",
            "/v1/chat/completion is not a path that goes to replicas, did you mean ",
            "path",
        ),
        ("x" * 1000, b"{}", "x" * 200 + " is not a path", "path"),
        (None, b"{}", "no telling which path", "path"),
        (None, b"", "the request body is no JSON object", None),
        (None, b"[]", "the request body is no JSON object", None),
        (None, b"\xff", "the request body is no JSON object", None),
        (None, b"[" * 100_000, "the request body is no JSON object", None),
    ],
)
def test_what_cannot_be_told_is_said(path: str | None, body: bytes, message: str, param: str | None) -> None:
    """400, and what to do about it."""
    with pytest.raises(BadRequest) as caught:
        endpoint_of(path, JSON, body)
    assert caught.value.message.startswith(message)
    assert caught.value.param == param
