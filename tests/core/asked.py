"""Bodies of requests, as the tests of `RequestFacts` make them."""

import json

import msgspec
import pytest
from hypothesis import strategies as st

from gateway.core.endpoints import RELAYED
from gateway.core.request import RequestFacts, parse
from gateway.errors import BadRequest

CHAT = b"/v1/chat/completions"
COMPLETION = b"/v1/completions"
JSON_PATHS = [CHAT, COMPLETION, b"/v1/responses", b"/v1/messages", b"/v1/embeddings"]
USER = {"role": "user", "content": "hello"}

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = st.sampled_from(["stream_options", "include_usage", "a", 'q"', "é", "messages"]) | TEXTS
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
SPACES = st.text(" \t\r\n", max_size=3)
OPTIONS = st.none() | st.fixed_dictionaries(
    {}, optional={"include_usage": st.sampled_from([None, False]), "continuous_usage_stats": st.booleans(), "x": VALUES}
)


def facts_of(value: object, path: bytes = CHAT) -> RequestFacts:
    return parse(RELAYED[path], b"application/json", value if isinstance(value, bytes) else json.dumps(value).encode())


def refused(body: object, path: bytes = CHAT) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        facts_of(body, path)
    assert caught.value.status == 400
    return caught.value


def top_level(body: bytes) -> dict[str, bytes]:
    """The top-level values of a JSON object, each as its bytes."""
    return {name: bytes(value) for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}
