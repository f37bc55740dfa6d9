"""Mock replicas that answer like vLLM at almost no cost, several ports in one process.

A request says how it wants to be answered, in a body field that a gateway forwards untouched:
`"mock": {"first_ms": 5, "interval_ms": 20, "tokens": 100}`. `interval_ms: 0` sends a chunk per turn of the event loop.
By hand: `python -m loadtest.overhead.mock --port 9001 --replicas 2`. Its first line of output is its ports, as JSON.
"""

import argparse
import asyncio
import itertools
import json
import signal
from collections.abc import Callable
from typing import cast

import httptools
import msgspec
import uvloop

MODEL = "bench"
TOKEN = " tok"
DONE = b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 %d %s\r\nserver: uvicorn\r\ncontent-type: %s\r\n"
STREAM_HEAD = HEAD % (200, b"OK", b"text/event-stream; charset=utf-8") + b"transfer-encoding: chunked\r\n\r\n"
MODELS: dict[str, object] = {
    "object": "list",
    "data": [{"id": MODEL, "object": "model", "created": 1764000000, "owned_by": "vllm", "max_model_len": 32768}],
}
_serial = itertools.count(1)


class Pace(msgspec.Struct):
    """How one request is answered; milliseconds, and the number of content events."""

    first_ms: float = 5
    interval_ms: float = 20
    tokens: int = 16


class StreamOptions(msgspec.Struct):
    """OpenAI's field of the same name."""

    include_usage: bool = False


class Body(msgspec.Struct):
    """The fields of a chat request that change the answer; msgspec skips the others without building them."""

    stream: bool = False
    stream_options: StreamOptions | None = None
    mock: Pace = msgspec.field(default_factory=Pace)


_decoder = msgspec.json.Decoder(Body)


def json_reply(value: object, status: int = 200, reason: bytes = b"OK") -> bytes:
    """A whole HTTP answer with a JSON body."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return HEAD % (status, reason, b"application/json") + b"content-length: %d\r\n\r\n" % len(body) + body


def usage(tokens: int) -> dict[str, int]:
    """OpenAI's usage object; the prompt's length is made up."""
    return {"prompt_tokens": 512, "total_tokens": 512 + tokens, "completion_tokens": tokens}


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Script:
    """The chunks of one streamed answer: event for event and field for field what vLLM's chat endpoint sends."""

    def __init__(self, reply_id: str, body: Body) -> None:
        self.left = max(1, body.mock.tokens)
        head = {"id": reply_id, "object": "chat.completion.chunk", "created": 1764000000, "model": MODEL}
        self._head = json.dumps(head, separators=(",", ":"))[:-1]
        self.role = self._event({"role": "assistant", "content": ""})
        self.content = self._event({"content": TOKEN})
        options = body.stream_options
        self.end = self._event({"content": TOKEN}, "length")
        if options is not None and options.include_usage:
            tail = json.dumps(usage(self.left), separators=(",", ":"))
            self.end += chunk(f'data: {self._head},"choices":[],"usage":{tail}}}\n\n'.encode())
        self.end += chunk(DONE) + b"0\r\n\r\n"

    def _event(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        choice: dict[str, object] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        if finish is not None:
            choice["stop_reason"] = None
        return chunk(f'data: {self._head},"choices":[{json.dumps(choice, separators=(",", ":"))}]}}\n\n'.encode())


class Replica(asyncio.Protocol):
    """One connection to a mock replica; keep-alive, no pipelining (proxies do not pipeline)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.Handle | None = None
        self._script: Script | None = None
        self._writable = True
        self._interval_s = 0.0
        self._due_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_message_begin(self) -> None:
        self._url = b""
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._url.startswith(b"/v1/chat/completions"):
            self._chat(b"".join(self._body))
        elif self._url.startswith(b"/v1/models"):
            self._send(json_reply(MODELS))
        elif self._url.startswith(b"/health"):
            self._send(HEAD % (200, b"OK", b"text/plain") + b"content-length: 0\r\n\r\n")
        else:
            self._send(json_reply({"detail": "Not Found"}, 404, b"Not Found"))

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._script is not None and self._interval_s == 0:
            self._timer = self._loop.call_soon(self._token)

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _chat(self, raw: bytes) -> None:
        try:
            body = _decoder.decode(raw)
        except msgspec.MsgspecError as exc:
            self._send(json_reply({"error": {"message": str(exc), "code": 400}}, 400, b"Bad Request"))
            return
        pace, reply_id = body.mock, f"chatcmpl-{next(_serial):032x}"
        if not body.stream:
            self._after(pace.first_ms, self._send, json_reply(completion(reply_id, pace.tokens)))
            return
        # vLLM sends the head at once and the role event together with the first token.
        self._send(STREAM_HEAD)
        self._script, self._interval_s = Script(reply_id, body), pace.interval_ms / 1000
        self._after(pace.first_ms, self._first)

    def _after(self, delay_ms: float, call: Callable[..., None], *args: object) -> None:
        if delay_ms > 0:
            self._timer = self._loop.call_later(delay_ms / 1000, call, *args)
        else:
            call(*args)

    def _first(self) -> None:
        assert self._script is not None
        self._due_s = self._loop.time()
        self._send(self._script.role)
        self._token()

    def _token(self) -> None:
        script = self._script
        if script is None or self._transport is None:
            return
        script.left -= 1
        if script.left == 0:
            self._script = None
            self._transport.write(script.end)
            return
        self._transport.write(script.content)
        if self._interval_s == 0:
            if self._writable:
                self._timer = self._loop.call_soon(self._token)
            return
        # Against the plan, not the last tick, so that 50 tokens/s stay 50 when this process is late.
        self._due_s += self._interval_s
        self._timer = self._loop.call_at(self._due_s, self._token)


def completion(reply_id: str, tokens: int) -> dict[str, object]:
    """vLLM's answer to a chat request that is not streamed."""
    message = {"role": "assistant", "content": TOKEN * tokens, "tool_calls": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length", "stop_reason": None}
    head = {"id": reply_id, "object": "chat.completion", "created": 1764000000, "model": MODEL}
    return {**head, "choices": [choice], "usage": usage(tokens)}


async def serve(first_port: int, replicas: int) -> None:
    """Serve until SIGINT or SIGTERM; port 0 takes free ports."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    ports = [first_port + i if first_port else 0 for i in range(replicas)]
    servers = [await loop.create_server(lambda: Replica(loop), "127.0.0.1", p, backlog=2048) for p in ports]
    print(json.dumps([s.sockets[0].getsockname()[1] for s in servers]), flush=True)
    await stop.wait()


def main() -> None:
    """Command line of the mock."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.overhead.mock", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="first port; 0 takes free ones")
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.replicas))


if __name__ == "__main__":
    main()
