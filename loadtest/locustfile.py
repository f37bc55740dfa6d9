"""Locust users that load an OpenAI-compatible endpoint the way people's programs do.

    make load                                                   # all kinds, against `make run`
    make load HOST=http://10.0.0.5:8080 KIND=CharacterUser USERS=200 TIME=5m
    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080        # with locust's page

Kinds: CharacterUser, AgentUser, RagUser, BatchUser; without a name, all of them, mixed by their weights. What the rows
mean stands in loadtest/README.md. OPENAI_API_KEY is sent as a bearer token when it is set. LOADTEST_MOCK, a JSON
object, goes out as the field `mock` that paces overhead/mock.py.
"""

import json
import os
import random
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, ClassVar

from locust import HttpUser, between, constant, events, task
from locust.env import Environment

from loadtest.answers import Answer, BadAnswer, decoded, read_stream
from loadtest.words import Zipf, passage, persona, prose, tools

PATH = "/v1/chat/completions"
TIMEOUT_S = 120.0  # between two reads
CORPUS = 400
"""Passages that questions are answered from."""


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="", help="what to ask for; default: the first of GET /v1/models")
    parser.add_argument("--characters", type=int, default=60, help="how many characters people talk to, by zipf")
    parser.add_argument(
        "--tools", default="on", choices=["on", "off"], help="off: for vLLM without --enable-auto-tool-choice"
    )


# Not FastHttpUser: its `iter_content` waits until 1,024 bytes are there, several tokens, and so measures no TTFT.
class Asking(HttpUser):
    """What all kinds share: one request, measured. `kind` is the rows' name, `klass` the gateway's class."""

    abstract = True
    kind: ClassVar[str]
    klass: ClassVar[str] = "standard"

    def on_start(self) -> None:
        key = os.environ.get("OPENAI_API_KEY")
        self.rng = random.Random()
        self.headers = {"x-gateway-class": self.klass} | ({"Authorization": f"Bearer {key}"} if key else {})
        self.options = self.environment.parsed_options
        self.model = self.options.model
        self.begin()

    def begin(self) -> None:
        """A new conversation."""

    def ask(self, messages: list[dict[str, Any]], max_tokens: int, **fields: Any) -> Answer | None:
        """Send, read to the end, note the figures; `None`, and one failed POST, if anything goes wrong."""
        if not self.model and not self._pick_model():
            return None
        body = {"model": self.model, "messages": messages, "max_tokens": max_tokens, "stream": True} | fields
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        if pace := os.environ.get("LOADTEST_MOCK"):
            body["mock"] = json.loads(pace)
        answer = Answer(time.perf_counter())
        if not self._send(body, answer):
            return None
        for row, value in answer.figures(time.perf_counter()):
            tokens = (answer.completion_tokens or 0) if row == "tokens/s" else 0
            # Into its row, not by an event: the sums of all rows, and locust's charts, are to be those of requests.
            self.environment.stats.entries[(self.kind, row)].log(value, tokens)
        return answer

    def _send(self, body: dict[str, Any], answer: Answer) -> bool:
        sent = self.client.post(
            PATH,
            name=self.kind,
            json=body,
            headers=self.headers,
            timeout=TIMEOUT_S,
            stream=body["stream"],
            catch_response=True,
        )
        with sent as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {(response.text or '')[:200]}")
                return False
            try:
                if body["stream"]:
                    # No chunk size: each HTTP chunk as it comes.
                    read_stream(response.iter_content(chunk_size=None), answer, time.perf_counter)
                else:
                    answer.take(decoded(response.content))
            except (BadAnswer, OSError) as exc:
                response.failure(f"{type(exc).__name__}: {exc}")
                return False
            finally:
                response.close()
                # Locust stops its watch at the response's head when the body is streamed.
                response.request_meta["response_time"] = (time.perf_counter() - answer.start_s) * 1000
            response.success()
        return True

    def _pick_model(self) -> bool:
        """False, and a failed request in the table, while the endpoint names no model."""
        with self.client.get("/v1/models", headers=self.headers, timeout=TIMEOUT_S, catch_response=True) as response:
            try:
                self.model = str(response.json()["data"][0]["id"])
            except (ValueError, LookupError, TypeError):
                response.failure(f"no model in the list: status {response.status_code}")
        return bool(self.model)


class CharacterUser(Asking):
    """Talks to a digital human or a game character: short turns, pauses for speech, popular and rare ones."""

    kind = "character"
    klass = "interactive"
    weight = 6
    wait_time = between(1, 4)
    turns: ClassVar[int] = 8

    def begin(self) -> None:
        number = Zipf.of(self.options.characters).draw(self.rng)
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": persona(number)}]

    @task
    def speak(self) -> None:
        """One turn; the answer as it came is part of the next prompt."""
        if len(self.messages) > 2 * self.turns:
            self.begin()
        self.messages.append({"role": "user", "content": prose(self.rng, self.rng.randint(5, 25))})
        answer = self.ask(self.messages, 60)
        if answer is None:
            self.begin()
        else:
            self.messages.append(answer.message())


class AgentUser(Asking):
    """A program that works in steps: the tools' list, a context that grows by every result, hardly a pause."""

    kind = "agent"
    weight = 2
    wait_time = between(0.1, 1)
    steps: ClassVar[int] = 12

    def begin(self) -> None:
        system = "You are an agent. Use the tools step by step.\n" + prose(random.Random("agent"), 500)
        self.messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": "Your task: " + prose(self.rng, 60)},
        ]

    @task
    def step(self) -> None:
        """One step, and the result of what it called."""
        if len(self.messages) > 2 * self.steps:
            self.begin()
        fields: dict[str, Any] = {}
        if self.options.tools == "on":
            fields = {"tools": tools(), "tool_choice": "auto"}
        answer = self.ask(self.messages, 120, **fields)
        if answer is None:
            self.begin()
            return
        self.messages.append(answer.message())
        self.messages.extend(self.results(answer))

    def results(self, answer: Answer) -> Iterator[dict[str, Any]]:
        """Each call's result, or a word to go on: 50 to 400 words."""
        for call in answer.calls.values():
            yield {"role": "tool", "tool_call_id": call["id"], "content": prose(self.rng, self.rng.randint(50, 400))}
        if not answer.calls:
            yield {"role": "user", "content": "Result: " + prose(self.rng, self.rng.randint(50, 400))}


class RagUser(Asking):
    """Asks about documents: the same instructions, other passages every time, some found often."""

    kind = "rag"
    weight = 2
    wait_time = between(1, 5)
    found = Zipf.of(CORPUS)

    @task
    def question(self) -> None:
        """Five passages and a question."""
        passages = "\n".join(passage(self.found.draw(self.rng)) for _ in range(5))
        self.ask(
            [
                {"role": "system", "content": "Answer from the passages only. " + prose(random.Random("rag"), 150)},
                {"role": "user", "content": f"{passages}\n\nQuestion: {prose(self.rng, 12)}"},
            ],
            150,
        )


class BatchUser(Asking):
    """Works through a file: nothing shared, not streamed, one after the other, and may wait for others."""

    kind = "batch"
    klass = "batch"
    weight = 1
    wait_time = constant(0)

    @task
    def line(self) -> None:
        """One line of the file."""
        self.ask([{"role": "user", "content": "Summarise: " + prose(self.rng, 400)}], 250, stream=False)


@events.quitting.add_listener
def _sums(environment: Environment, **_: Any) -> None:
    """One line a kind, of what locust's table has no column for: output tokens a second, the prompts' cached share."""
    stats = environment.stats
    seconds = max(1e-9, (stats.last_request_timestamp or 0) - stats.start_time)
    for (kind, row), entry in sorted(stats.entries.items()):
        if row == "tokens/s":
            cached = stats.entries.get((kind, "cached %"))
            share = f", {cached.avg_response_time:.0f} % of an average prompt cached" if cached else ""
            tokens = entry.total_content_length
            print(f"{kind}: {entry.num_requests} answers, {tokens} output tokens, {tokens / seconds:.1f}/s{share}")
