"""Which path a request was written for, by the look of its body, where nobody has said."""

import difflib

import msgspec

from gateway.core.decoding import UNREADABLE
from gateway.core.endpoints import RELAYED, Endpoint
from gateway.errors import BadRequest

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])

_MARKS: tuple[tuple[str, frozenset[str]], ...] = (
    ("/v1/messages", frozenset({"messages", "system"})),
    ("/v1/messages", frozenset({"messages", "stop_sequences"})),
    ("/v1/chat/completions", frozenset({"messages"})),
    ("/v1/completions", frozenset({"prompt"})),
    ("/v1/embeddings", frozenset({"input", "encoding_format"})),
    ("/v1/embeddings", frozenset({"input", "dimensions"})),
    ("/v1/rerank", frozenset({"query", "documents"})),
    ("/v1/score", frozenset({"text_1"})),
    ("/v1/score", frozenset({"queries"})),
    ("/v1/score", frozenset({"data_1"})),
)
"""Path, and the fields that give it away; the first that fits counts."""


def endpoint_of(path: str | None, content_type: bytes, body: bytes) -> Endpoint:
    """The endpoint of this path; for `None`, the one that takes such bodies. Raises `BadRequest`."""
    if path is not None:
        return _named(path)
    if content_type.lower().startswith(b"multipart/form-data"):
        return RELAYED[b"/v1/audio/transcriptions"]
    try:
        fields = _fields.decode(body)
    except UNREADABLE as error:
        raise BadRequest(f"the request body is no JSON object: {error}") from None
    for guess, marks in _MARKS:
        if marks <= fields.keys():
            return RELAYED[guess.encode()]
    if "input" in fields:
        return RELAYED[_by_input(bytes(fields["input"]))]
    raise BadRequest("no telling which path this request is for: say so with ?path=/v1/…", param="path")


def _named(path: str) -> Endpoint:
    endpoint = RELAYED.get(path.encode())
    if endpoint is None:
        near = difflib.get_close_matches(path, [one.path for one in RELAYED.values()], 1)
        hint = f", did you mean {near[0]}?" if near else ""
        raise BadRequest(f"{path[:200]} is not a path that goes to replicas{hint}", param="path")
    return endpoint


def _by_input(value: bytes) -> bytes:
    """Embeddings take lists of texts and of token ids, the Responses API a text or items."""
    is_list_of_plain = value[:1] == b"[" and value[1:].lstrip()[:1] != b"{"
    return b"/v1/embeddings" if is_list_of_plain else b"/v1/responses"
