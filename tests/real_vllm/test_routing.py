"""What the gateway does with real caches and real telemetry."""

import random
import time
from contextlib import ExitStack
from typing import Any

import httpx

from tests.processes import Serving
from tests.real_vllm.replicas import MODEL, Replica, wait_until
from tests.real_vllm.seen import CHAT, chat, events, piece, prose, row, streamed, wait_idle

SYSTEM = prose("a persona", 2000)
KV_USAGE = "vllm:kv_cache_usage_perc"


def ask(http: httpx.Client, question: str) -> tuple[str, float, dict[str, Any]]:
    """Who answered a question to the persona, after how many seconds came the first token, and the usage."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    body = chat(messages=messages, max_tokens=8, stream=True, stream_options={"include_usage": True})
    began, first_s, usage = time.perf_counter(), 0.0, {}
    with http.stream("POST", CHAT, json=body) as answer:
        for event in events(answer.iter_lines()):
            if piece(event) and not first_s:
                first_s = time.perf_counter() - began
            usage = event.get("usage") or usage
    return answer.headers["x-gateway-replica"], first_s, usage


def test_a_system_prompt_stays_where_it_is_cached(http: httpx.Client, replicas: list[Replica]) -> None:
    """6,000 tokens once: later questions go there, hit in vLLM's own count, and have their first token sooner."""

    def hits() -> dict[str, float]:
        return {replica.name: replica.figure("vllm:prefix_cache_hits_total") for replica in replicas}

    before = hits()
    home, cold_s, usage = ask(http, "Who are you?")
    size = usage["prompt_tokens"]
    assert size > 5000
    warm_s = []
    for i in range(5):
        streamed(http, chat(prose(f"somebody else {i}", 200), max_tokens=4))
        name, first_s, usage = ask(http, f"Question {i}?")
        warm_s.append(first_s)
        assert name == home
        assert usage["prompt_tokens_details"]["cached_tokens"] > usage["prompt_tokens"] - 200
    after = hits()
    other = next(name for name in after if name != home)
    assert after[home] - before[home] > 5 * (size - 200)
    assert after[other] - before[other] < size - 200
    assert min(warm_s) < cold_s  # by twenty times and more: for noise to hide that, it must hit all five


def test_a_full_cache_is_seen_and_avoided(gateway: Serving, http: httpx.Client, replicas: list[Replica]) -> None:
    """Somebody else fills one replica behind the gateway's back: only vLLM's metrics can tell, and they do."""
    full, free = replicas
    with ExitStack() as fill:
        # Twice 57 of 127 blocks, and six more each while they run: no preemption, which would make room.
        for i in range(2):
            ids = random.Random(i).choices(range(300, 1400), k=7250)
            body = {"model": MODEL, "prompt": ids, "max_tokens": 800, "ignore_eos": True, "stream": True}
            fill.enter_context(full.http.stream("POST", "/v1/completions", json=body))
        wait_until(lambda: full.figure(KV_USAGE) > 0.89, lambda: full.figure(KV_USAGE))
        fill.enter_context(full.frozen())  # so that it stays full until the gateway has looked and chosen
        wait_until(lambda: (kv_usage(gateway, full) or 0) > 0.89, lambda: row(gateway, full.name))
        assert (kv_usage(gateway, free) or 0) < 0.2
        chosen = [
            http.post(CHAT, json=chat(prose(f"newcomer {i}", 100), max_tokens=1)).headers["x-gateway-replica"]
            for i in range(6)
        ]
    assert chosen == [free.name] * 6
    wait_idle(replicas)
    wait_until(lambda: kv_usage(gateway, full) == 0, lambda: row(gateway, full.name))


def kv_usage(gateway: Serving, replica: Replica) -> float | None:
    """What the gateway knows of it: the share of the KV cache that running requests have."""
    usage: float | None = row(gateway, replica.name)["engine"]["kv_usage_ratio"]
    return usage
