"""What the tests ask for, and what the gateway shows meanwhile."""

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.processes import Serving, serving
from tests.real_vllm.replicas import MODEL, Replica, wait_until

CHAT = "/v1/chat/completions"
WORDS = (
    "river", "stone", "lantern", "harbor", "winter", "market", "captain", "garden", "engine", "silver", "bridge",
    "signal", "forest", "island",
)  # fmt: skip


def prose(seed: str, words: int) -> str:
    """The same words for the same seed; a word is two to three tokens of the tiny model."""
    rng = random.Random(seed)
    return " ".join(rng.choices(WORDS, k=words))


def chat(text: str = "Hello there!", **fields: Any) -> dict[str, Any]:
    """A greedy chat of a fixed length: the same text from every replica."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 40}
    return body | {"ignore_eos": True} | fields


def events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream that came to its [DONE]; AssertionError if it did not."""
    done = False
    for line in lines:
        if line == "data: [DONE]":
            done = True
        elif line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
    assert done, "the stream ended without [DONE]"


def piece(event: dict[str, Any]) -> str:
    """The text that an event adds."""
    assert "error" not in event, event
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])


def streamed(http: httpx.Client, body: dict[str, Any], **headers: str) -> str:
    """The text of a whole stream."""
    with http.stream("POST", CHAT, json=body | {"stream": True}, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        return "".join(map(piece, events(answer.iter_lines())))


def whole(http: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """An answer that is not streamed."""
    answer = http.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def text_of(http: httpx.Client, body: dict[str, Any]) -> str:
    content = whole(http, body)["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


@contextmanager
def gateway_before(replicas: Sequence[Replica], folder: Path) -> Iterator[Serving]:
    """A gateway that has found all of them ready. Its config file is written to the folder.

    It asks often, and is patient with a machine that has other work: a replica that is gone refuses at once.
    """
    config = {
        "replicas": [{"url": replica.url, "name": replica.name} for replica in replicas],
        "resilience": {"connect_timeout_s": 20, "probe": {"interval_s": 0.5}},
        "telemetry": {"engine": {"timeout_s": 10, "stale_after_s": 60}},
    }
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config))  # YAML, too
    with serving("-c", str(file)) as started:
        wait_ready(started, replicas)
        yield started


def told(gateway: Serving, replica: Replica, word: str) -> None:
    """Say `drain` or `resume` of a replica."""
    answer = httpx.post(f"{gateway.admin_url}/admin/replicas/{replica.name}/{word}", trust_env=False)
    assert answer.status_code < 300, answer.text


def resumes(gateway: Serving) -> dict[str, float]:
    """What became of the streams whose replica died."""
    page = httpx.get(f"{gateway.admin_url}/metrics", trust_env=False).text
    found = re.findall(r'^gateway_resumes_total\{outcome="(\w+)"\} (\S+)', page, re.M)
    return {outcome: float(count) for outcome, count in found}


def row(gateway: Serving, name: str) -> dict[str, Any]:
    """What the dashboard knows of a replica."""
    state = httpx.get(f"{gateway.dashboard_url}/state.json", trust_env=False).json()
    return dict(next(replica for replica in state["replicas"] if replica["name"] == name))


def wait_ready(gateway: Serving, replicas: Sequence[Replica]) -> None:
    """Return when the gateway sends to each of them."""
    for replica in replicas:
        name = replica.name
        wait_until(lambda name=name: row(gateway, name)["state"] == "ready", lambda name=name: row(gateway, name))


def wait_idle(replicas: Sequence[Replica]) -> None:
    """Return when none has a request."""
    wait_until(
        lambda: not any(replica.busy() for replica in replicas), lambda: [replica.busy() for replica in replicas]
    )
