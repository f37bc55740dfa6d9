"""A client that leaves frees the GPU: seen in vLLM's own count of requests that run, and of those that finished."""

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests import raw
from tests.processes import Serving
from tests.real_vllm.replicas import UNHURRIED, Replica, wait_until
from tests.real_vllm.seen import CHAT, chat, prose, wait_idle

LONG = {"max_tokens": 7500} | UNHURRIED
"""Two minutes and a half."""


def busy(replicas: list[Replica]) -> float:
    return sum(replica.busy() for replica in replicas)


def finished(replicas: list[Replica]) -> float:
    return sum(replica.finished() for replica in replicas)


def test_after_the_first_token(http: httpx.Client, replicas: list[Replica]) -> None:
    """The stream is left in its middle: nobody goes on with it."""
    before = finished(replicas)
    with http.stream("POST", CHAT, json=chat("Tell me a story.", stream=True, **LONG)) as answer:
        lines = answer.iter_lines()  # kept: httpx closes the connection with its last iterator
        while '"content":"' not in (line := next(lines)) or '"content":""' in line:
            pass
        wait_until(lambda: busy(replicas) == 1, lambda: busy(replicas))
    wait_idle(replicas)
    assert finished(replicas) == before


@pytest.mark.parametrize("stream", [True, False])
def test_before_the_first_token(gateway: Serving, replicas: list[Replica], stream: bool) -> None:
    """A client that gives up while its long prompt is read, or before an answer that is not streamed."""
    before = finished(replicas)
    body = chat(prose(f"left {stream}", 2000), stream=stream, **LONG)
    address = urlsplit(gateway.api_url)
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(raw.request(CHAT, body))
        wait_until(lambda: busy(replicas) == 1, lambda: busy(replicas))
    wait_idle(replicas)
    assert finished(replicas) == before


def test_one_leaves_and_the_others_stay(http: httpx.Client, replicas: list[Replica]) -> None:
    """Only its own request ends."""
    before = finished(replicas)
    with http.stream("POST", CHAT, json=chat("Tell me another.", stream=True, max_tokens=300)) as stays:
        lines = stays.iter_lines()
        next(lines)
        with http.stream("POST", CHAT, json=chat("And one more.", stream=True, **LONG)) as leaves:
            next(leaves.iter_lines())
        wait_until(lambda: busy(replicas) <= 1, lambda: busy(replicas))
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    wait_idle(replicas)
    assert finished(replicas) == before + 1
