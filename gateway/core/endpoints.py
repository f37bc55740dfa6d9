"""The relay table: every path that goes to a replica.

A new one is a line here, and a parser in `request.py` if it has a prompt.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.core.events import Reader, read_chunk, read_message_event, read_nothing, read_response_event


class Shape(StrEnum):
    """What the body of a request looks like, as far as the gateway reads it."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSE = "response"
    MESSAGE = "message"
    EMBEDDING = "embedding"
    SCORE = "score"
    PLAIN = "plain"
    FORM = "form"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How one path is read. `asks_usage`: a stream reports its usage only if `stream_options` asks for it."""

    path: str
    shape: Shape = Shape.PLAIN
    read: Reader = read_nothing
    asks_usage: bool = False

    @property
    def done(self) -> bytes:
        """The event that ends a stream of this API, where it has one."""
        return b"data: [DONE]\n\n" if self.asks_usage else b""


RELAYED: dict[bytes, Endpoint] = {
    endpoint.path.encode(): endpoint
    for endpoint in (
        Endpoint("/v1/chat/completions", Shape.CHAT, read_chunk, asks_usage=True),
        Endpoint("/v1/chat/completions/batch"),
        Endpoint("/v1/completions", Shape.COMPLETION, read_chunk, asks_usage=True),
        Endpoint("/v1/responses", Shape.RESPONSE, read_response_event),
        Endpoint("/v1/messages", Shape.MESSAGE, read_message_event),
        Endpoint("/v1/messages/count_tokens"),
        Endpoint("/v1/embeddings", Shape.EMBEDDING),
        Endpoint("/v1/score", Shape.SCORE),
        Endpoint("/v1/rerank", Shape.SCORE),
        Endpoint("/v1/audio/transcriptions", Shape.FORM, read_chunk),
        Endpoint("/v1/audio/translations", Shape.FORM, read_chunk),
        Endpoint("/v1/audio/speech"),
        Endpoint("/v1/images/generations"),
        Endpoint("/v1/moderations"),
        Endpoint("/v2/rerank", Shape.SCORE),
        Endpoint("/v2/embed"),
        Endpoint("/tokenize"),
        Endpoint("/detokenize"),
        Endpoint("/pooling"),
        Endpoint("/classify"),
        Endpoint("/score", Shape.SCORE),
        Endpoint("/rerank", Shape.SCORE),
    )
}
