import pytest

from gateway.core.endpoints import RELAYED, Shape
from gateway.core.events import read_chunk, read_message_event, read_nothing, read_response_event


@pytest.mark.parametrize("path", RELAYED)
def test_a_path_finds_its_own_endpoint(path):
    """The table is keyed by the path's bytes, as they stand in a request line."""
    assert RELAYED[path].path.encode() == path
    assert path.startswith(b"/")


@pytest.mark.parametrize(
    ("path", "shape", "read"),
    [
        (b"/v1/chat/completions", Shape.CHAT, read_chunk),
        (b"/v1/completions", Shape.COMPLETION, read_chunk),
        (b"/v1/responses", Shape.RESPONSE, read_response_event),
        (b"/v1/messages", Shape.MESSAGE, read_message_event),
        (b"/v1/audio/transcriptions", Shape.FORM, read_chunk),
        (b"/v1/embeddings", Shape.EMBEDDING, read_nothing),
        (b"/v1/score", Shape.SCORE, read_nothing),
        (b"/tokenize", Shape.PLAIN, read_nothing),
    ],
)
def test_each_api_has_its_reader(path, shape, read):
    """Bodies and events are read in the way of their API."""
    endpoint = RELAYED[path]
    assert (endpoint.shape, endpoint.read) == (shape, read)


def test_only_chat_and_completions_must_ask_for_usage():
    """The other APIs report usage by themselves, and would refuse or ignore `stream_options`."""
    assert {path for path, endpoint in RELAYED.items() if endpoint.asks_usage} == {
        b"/v1/chat/completions",
        b"/v1/completions",
    }
