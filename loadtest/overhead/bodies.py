"""Chat requests of an exact size over a handful of system prompts, as the bytes that go on the wire."""

import json
import random

from loadtest.overhead.mock import MODEL

PROMPTS = 8
VOCABULARY = (
    "the a and of to in is that for it as with be on not by this are or from at which one have an were all there "
    "cache replica token prompt answer question customer order invoice delivery account policy refund schedule"
)
WORDS = VOCABULARY.split()


def prose(rng: random.Random, length: int) -> str:
    """English-looking text of exactly `length` characters."""
    words: list[str] = []
    size = 0
    while size < length:
        words.append(rng.choice(WORDS))
        size += len(words[-1]) + 1
    return " ".join(words)[:length].ljust(length, ".")


def body(size: int, seed: int, stream: bool, first_ms: float, interval_ms: float, tokens: int) -> bytes:
    """A chat body of `size` bytes: a system prompt shared by every PROMPTS-th seed, then turns of the seed's own."""
    system = prose(random.Random(seed % PROMPTS), size // 2)
    rng = random.Random(1000 + seed)
    messages = [{"role": "system", "content": system}]
    while len(json.dumps(messages)) < size - 1300:
        messages.append({"role": "user", "content": prose(rng, 600)})
        messages.append({"role": "assistant", "content": prose(rng, 400)})
    last = {"role": "user", "content": ""}
    request = {
        "model": MODEL,
        "messages": [*messages, last],
        "max_tokens": tokens,
        "temperature": 0.7,
        "stream": stream,
        "mock": {"first_ms": first_ms, "interval_ms": interval_ms, "tokens": tokens},
    }
    last["content"] = prose(rng, size - len(json.dumps(request)))
    return json.dumps(request).encode()


def requests(
    count: int, size: int, *, stream: bool, first_ms: float = 0, interval_ms: float = 0, tokens: int = 16
) -> list[bytes]:
    """`count` requests, head and body, of `size` bytes of body each."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: OpenAI/Python 2.8.0\r\n"
        b"accept: application/json\r\naccept-encoding: identity\r\nauthorization: Bearer sk-bench\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    bodies = [body(size, seed, stream, first_ms, interval_ms, tokens) for seed in range(count)]
    return [head % len(b) + b for b in bodies]
