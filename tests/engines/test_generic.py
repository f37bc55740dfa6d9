"""An engine of which nothing is known."""

from gateway.engines import DIALECTS


def test_it_tells_nothing() -> None:
    """It is not even asked."""
    assert DIALECTS["openai"].metrics_path is None
    assert DIALECTS["openai"].read(b"vllm:num_requests_running 1\n", 0.0) is None
