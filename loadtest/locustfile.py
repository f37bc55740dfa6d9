"""Locust users that hold short streaming chats over a handful of system prompts with an OpenAI-compatible endpoint.

    locust -f loadtest/locustfile.py --headless -u 20 -r 10 -t 30s --host http://127.0.0.1:8080

Rows in locust's table, all in milliseconds: POST is the whole exchange, TTFT the time to the first event with generated
output, ITL the mean gap between the following ones. `tokens/s` is one answer's speed after its first token, in tokens
per second: read its column as that unit. Events with output count as tokens, as vLLM sends one for each by default.

OPENAI_API_KEY is sent as a bearer token when it is set. LOADTEST_MOCK, a JSON object, goes out as the field `mock` that
paces overhead/mock.py; without the variable the field is not sent.
"""

import json
import os
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from locust import HttpUser, between, task

PATH = "/v1/chat/completions"
MAX_TOKENS = 32
TIMEOUT_S = 120.0  # between two reads
SYSTEM_PROMPTS = tuple(
    f"You are the assistant of {name}. " + "Answer briefly, name your source, and ask when a question is unclear. " * 12
    for name in ("a bank", "an airline", "a library", "a hospital", "a city council", "a hardware shop")
)
QUESTIONS = (
    "What are your opening hours?",
    "How do I change an order that I placed yesterday?",
    "Summarise the rules for returns in two sentences.",
    "Which documents do I need to bring?",
)


class StreamError(Exception):
    """An answer that did not arrive as a whole: an error event, or no [DONE]."""


@dataclass(slots=True)
class Timing:
    """When output arrived, in seconds of the performance counter; `first_s` is None until it does."""

    start_s: float
    first_s: float | None = None
    last_s: float = 0.0
    tokens: int = 0

    def output(self, now_s: float) -> None:
        """Count one event with generated output."""
        if self.first_s is None:
            self.first_s = now_s
        self.last_s = now_s
        self.tokens += 1


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of a byte stream, however it was cut up; an unfinished last line is dropped, as SSE demands."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")


def has_output(event: dict[str, Any]) -> bool:
    """True for text, reasoning or tool-call arguments; the role event is not output."""
    for choice in event.get("choices", []):
        delta = choice.get("delta", {})
        if delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or delta.get("tool_calls"):
            return True
    return False


def read_stream(chunks: Iterable[bytes], timing: Timing) -> None:
    """Fill `timing`; raises StreamError on an error event, without output, or without [DONE]. Reads to the very end."""
    done = False
    for line in lines(chunks):
        if line.startswith(b"event: error"):
            raise StreamError("error event")
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            done = True  # and go on: a connection whose body was not read to its end is not used again
            continue
        try:
            event = json.loads(data)
        except ValueError as exc:
            raise StreamError(f"not JSON: {data[:80]!r}") from exc
        if "error" in event:
            raise StreamError(f"error event: {data[:200].decode(errors='replace')}")
        if has_output(event):
            timing.output(time.perf_counter())
    if not done:
        raise StreamError("the stream ended without [DONE]")
    if timing.first_s is None:
        raise StreamError("[DONE] without output")


def rows(timing: Timing) -> dict[str, float]:
    """TTFT and, for more than one token, mean ITL (both ms) and tokens/s after the first token, of a whole answer."""
    if timing.first_s is None:
        return {}
    values = {"TTFT": (timing.first_s - timing.start_s) * 1000}
    after_first_s = timing.last_s - timing.first_s
    if timing.tokens > 1 and after_first_s > 0:
        values["ITL"] = after_first_s / (timing.tokens - 1) * 1000
        values["tokens/s"] = (timing.tokens - 1) / after_first_s
    return values


# Not FastHttpUser: its `iter_content` waits until 1,024 bytes are there, several tokens, and so measures no TTFT.
class Chatter(HttpUser):
    """A person who asks, reads the streamed answer to its end, thinks, and asks again with the history."""

    wait_time = between(0.1, 0.5)
    turns: ClassVar[int] = 4  # then a new chat, so that prompts stay short

    def on_start(self) -> None:
        """Pick the model from the endpoint's list and the person's system prompt."""
        key = os.environ.get("OPENAI_API_KEY")
        self.auth_headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.model: str | None = None
        self.messages = [{"role": "system", "content": random.choice(SYSTEM_PROMPTS)}]

    def pick_model(self) -> bool:
        """False, and a failed request in the table, while the endpoint names no model."""
        with self.client.get(
            "/v1/models", headers=self.auth_headers, timeout=TIMEOUT_S, catch_response=True
        ) as response:
            try:
                self.model = str(response.json()["data"][0]["id"])
            except (ValueError, LookupError, TypeError):
                response.failure(f"no model in the list: status {response.status_code}")
        return self.model is not None

    @task
    def chat(self) -> None:
        """One turn of the chat."""
        if self.model is None and not self.pick_model():
            return
        if len(self.messages) > 2 * self.turns:
            del self.messages[1:]
        self.messages.append({"role": "user", "content": random.choice(QUESTIONS)})
        self.ask()
        self.messages.append({"role": "assistant", "content": "Certainly. " * 20})

    def ask(self) -> None:
        """Send, read to [DONE], and report; whatever goes wrong is one failed POST."""
        timing = Timing(time.perf_counter())
        sent = self.client.post(
            PATH, json=self.payload(), headers=self.auth_headers, timeout=TIMEOUT_S, stream=True, catch_response=True
        )
        with sent as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {(response.text or '')[:200]}")
                return
            try:
                # No chunk size: each HTTP chunk as it comes.
                read_stream(response.iter_content(chunk_size=None), timing)
            except (StreamError, OSError) as exc:
                response.failure(f"{type(exc).__name__}: {exc}")
                return
            finally:
                response.close()
                # Locust stops its watch at the response's head when the body is streamed.
                response.request_meta["response_time"] = (time.perf_counter() - timing.start_s) * 1000
            response.success()
        for kind, value in rows(timing).items():
            self.environment.events.request.fire(
                request_type=kind, name=PATH, response_time=value, response_length=0, exception=None, context={}
            )

    def payload(self) -> dict[str, Any]:
        """The request's body."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": self.messages,
            "max_tokens": MAX_TOKENS,
            "stream": True,
        }
        pace = os.environ.get("LOADTEST_MOCK")
        if pace:
            body["mock"] = json.loads(pace)
        return body
