"""Replicas that die, restart and queue, while clients wait."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import httpx
import pytest

from tests.processes import Serving
from tests.real_vllm.replicas import MODEL, PLACES, UNHURRIED, Replica, wait_until
from tests.real_vllm.seen import (
    CHAT,
    chat,
    events,
    piece,
    resumes,
    row,
    streamed,
    text_of,
    told,
    wait_idle,
    wait_ready,
)

LONG = {"max_tokens": 250} | UNHURRIED
"""Takes five seconds."""

STREAMS: list[tuple[str, dict[str, Any]]] = [
    *((CHAT, chat(f"Tell me story {i}.", **LONG)) for i in range(4)),
    (CHAT, chat("Tell me one with an end.", stop=["never said", "nor this"], **LONG)),
    ("/v1/completions", {"model": MODEL, "prompt": "Once", "temperature": 0, "ignore_eos": True} | LONG),
]


class Reader:
    """Streams, read side by side; `names` is who answers them, `begun` those that have brought some events."""

    def __init__(self, http: httpx.Client) -> None:
        self.names: list[str] = []
        self.begun: list[str] = []
        self._http = http

    def under_way(self) -> None:
        """Return once all of them have begun."""
        wait_until(lambda: len(self.begun) == len(STREAMS), lambda: self.begun)

    def read(self, path: str, body: dict[str, Any]) -> str:
        """The text, to its [DONE]."""
        text = ""
        with self._http.stream("POST", path, json=body | {"stream": True}) as answer:
            self.names.append(answer.headers["x-gateway-replica"])
            for count, event in enumerate(events(answer.iter_lines())):
                text += said(event)
                if count == 2:
                    self.begun.append(path)
        return text


def said(event: dict[str, Any]) -> str:
    """The text that a chat's or a completion's event adds."""
    return piece(event) if "delta" in event["choices"][0] else str(event["choices"][0]["text"])


def unbroken(replica: Replica, path: str, body: dict[str, Any]) -> str:
    """What it says without a gateway and in peace."""
    choice = replica.http.post(path, json=body).json()["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


@pytest.fixture(scope="module")
def expected(replicas: list[Replica]) -> list[str]:
    """The texts of all streams, unbroken."""
    with ThreadPoolExecutor(len(STREAMS)) as pool:
        return list(pool.map(lambda stream: unbroken(replicas[1], *stream), STREAMS))


@pytest.mark.parametrize("only_engine", [False, True])
def test_streams_outlive_their_replica(
    gateway: Serving, http: httpx.Client, replicas: list[Replica], expected: list[str], only_engine: bool
) -> None:
    """kill -9 in mid-stream, of all its processes or of its engine alone, whose server then tells an error: every
    client reads on, and has the text that an unbroken greedy run gives."""
    victim, other = replicas
    reader = Reader(http)
    told(gateway, other, "drain")  # all of them begin at the victim
    with ThreadPoolExecutor(len(STREAMS)) as pool:
        texts = [pool.submit(reader.read, path, body) for path, body in STREAMS]
        reader.under_way()
        assert set(reader.names) == {victim.name}
        with victim.frozen():  # or they might end before the other is ready
            told(gateway, other, "resume")
            wait_ready(gateway, [other])
            victim.kill_engine() if only_engine else victim.kill()
        try:
            assert [text.result() for text in texts] == expected
        finally:
            restarted(victim)
    assert resumes(gateway) == {"resumed": len(STREAMS)}
    wait_ready(gateway, replicas)


def test_a_killed_replica_costs_no_new_request(gateway: Serving, http: httpx.Client, replicas: list[Replica]) -> None:
    """Who comes after its death is served by the other, at once; it is back in traffic after its restart."""
    victim, other = replicas
    expected = text_of(other.http, chat())
    victim.kill()
    try:
        for i in range(10):
            answer = http.post(CHAT, json=chat(), headers={"x-session-id": str(i)})
            assert answer.status_code == 200
            assert answer.headers["x-gateway-replica"] == other.name
            assert answer.json()["choices"][0]["message"]["content"] == expected
        wait_until(lambda: row(gateway, victim.name)["state"] == "ejected", lambda: row(gateway, victim.name))
    finally:
        restarted(victim)
    wait_ready(gateway, replicas)
    told(gateway, other, "drain")
    assert http.post(CHAT, json=chat()).headers["x-gateway-replica"] == victim.name


class Asking:
    """A client that asks again and again, and remembers what was not as it should be."""

    def __init__(self, url: str, body: dict[str, Any], expected: str) -> None:
        self.right = 0
        self.wrong: list[str] = []
        self._url, self._body, self._expected = url, body, expected
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as http:
            while not self._end.wait(0.5):
                try:
                    text = streamed(http, self._body)
                except (AssertionError, httpx.HTTPError) as error:
                    self.wrong.append(repr(error))
                else:
                    self.right += text == self._expected
                    self.wrong += [] if text == self._expected else [text]


def test_a_rolling_restart(gateway: Serving, http: httpx.Client, replicas: list[Replica]) -> None:
    """One after the other is stopped by SIGTERM and started again, under load, one with a word to the gateway before
    and one without: every answer is whole and right."""
    body = chat("Keep talking.", max_tokens=150)
    expected = text_of(replicas[0].http, body)
    url = gateway.api_url.removesuffix("/v1")
    with (
        Asking(url, body, expected) as one,
        Asking(url, chat(max_tokens=20), text_of(http, chat(max_tokens=20))) as two,
    ):
        for replica, drained in zip(replicas, (True, False), strict=True):
            restart(gateway, replica, drained=drained)
            wait_ready(gateway, replicas)
        seen = one.right + two.right
        wait_until(lambda: one.right + two.right > seen + 4)
    assert (one.wrong, two.wrong) == ([], [])


def restarted(replica: Replica) -> None:
    """Whatever is left of it is killed; return when it answers again."""
    replica.kill()
    replica.start()
    replica.wait()


def restart(gateway: Serving, replica: Replica, *, drained: bool) -> None:
    """As a deployment does it; `drained`: the gateway is told before, and its streams there have ended."""
    if drained:
        told(gateway, replica, "drain")
        wait_idle([replica])
    replica.stop()
    restarted(replica)
    if drained:
        told(gateway, replica, "resume")


def test_priority(gateway: Serving, http: httpx.Client, replicas: list[Replica]) -> None:
    """vLLM serves its queue by the requests' own `priority`, lower first: the field reaches it."""
    busy, idle = replicas
    told(gateway, idle, "drain")
    waiting = (5, 1, -5, 3, 0, 9)
    order: list[int] = []

    def stream(text: str, priority: int) -> AbstractContextManager[httpx.Response]:
        return http.stream("POST", CHAT, json=chat(text, max_tokens=1600, priority=priority, stream=True, **UNHURRIED))

    def wait_in_line(priority: int) -> None:
        """Who has the place has its first token, is put down, and only then leaves the place to the next."""
        with stream(f"Waiting {priority}", priority) as answer:
            next(filter(piece, events(answer.iter_lines())))
            order.append(priority)

    with ThreadPoolExecutor(len(waiting)) as pool, ExitStack() as stay:
        with stream("Leaving", -100):
            for i in range(PLACES - 1):
                stay.enter_context(stream(f"Running {i}", -100))
            asked = [pool.submit(wait_in_line, priority) for priority in waiting]
            wait_until(lambda: busy.busy() == PLACES + len(waiting), busy.busy)
        for future in asked:
            future.result()
    assert order == sorted(waiting)
    wait_idle(replicas)
