"""Two real replicas and a gateway before them. Collected only with REAL_VLLM set, as `make test-vllm` does."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.processes import Serving
from tests.real_vllm import environment
from tests.real_vllm.replicas import PATIENCE_S, Replica, start_all
from tests.real_vllm.seen import gateway_before

collect_ignore_glob = [] if os.environ.get("REAL_VLLM") else ["test_*.py"]

BLOCKS = 128
"""Of 128 tokens each: small enough that a test can fill the KV cache."""

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A replica takes the better part of a minute to start, and more on a busy machine."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def replicas() -> Iterator[list[Replica]]:
    """Two, started once. A test that ends one starts it again."""
    assert environment.ready(), "no environment: `make vllm`"
    fleet = [Replica(name, "--num-gpu-blocks-override", str(BLOCKS)) for name in ("a", "b")]
    try:
        start_all(fleet)
        yield fleet
    finally:
        for replica in fleet:
            replica.stop()
            replica.close()


@pytest.fixture
def gateway(replicas: list[Replica], tmp_path: Path) -> Iterator[Serving]:
    """A gateway that knows nothing yet, with both replicas ready."""
    with gateway_before(replicas, tmp_path) as started:
        yield started


@pytest.fixture
def http(gateway: Serving) -> Iterator[httpx.Client]:
    """The gateway's public port."""
    with httpx.Client(base_url=gateway.api_url.removesuffix("/v1"), timeout=PATIENCE_S, trust_env=False) as client:
        yield client


@pytest.fixture
def sdk(gateway: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.api_url, api_key="unused", max_retries=0, timeout=PATIENCE_S) as client:
        yield client
