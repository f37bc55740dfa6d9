"""What must be gone when nobody asks any more, and how the books must add up."""

import asyncio
import gc
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

import gateway.serving
from gateway.emulator.fleet import Fleet
from gateway.serving.attempt import Attempt
from gateway.serving.exchange import Exchange
from gateway.serving.front import Front
from gateway.serving.upstream import UpstreamConnection
from tests.chaos.asks import Ask
from tests.chaos.clients import LEFT
from tests.chaos.verdict import ABORTED, EXACT, REFUSED, UNTOLD, counts
from tests.running import Running

Record = dict[str, Any]

SERVING = str(Path(gateway.serving.__file__).parent)
LASTING = ("server.py", "watchdog.py")
"""Their tasks run as long as the gateway does."""


def remains(harness: Running, fleet: Fleet) -> list[str]:
    """What is still there, a line each."""
    running = harness.gateway
    counted = {
        "requests in the books": running.books.total_in_flight(),
        "tokens in the books": sum(
            running.books[view.id].queued_tokens + running.books[view.id].held_tokens
            for view in running.board.current.replicas
        ),
        "client connections": len(running.public.server_state.connections),
        "deadlines": len(running.watchdog.watched),
        "requests at replicas": sum(replica.running for replica in fleet.replicas),
        **Counter(f"tasks of {name}" for name in _tasks()),
    }
    return [f"{count} {what}" for what, count in counted.items() if count]


def _tasks() -> list[str]:
    """Files of `gateway/serving` that have a task which is about one request."""
    codes = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
    files = [Path(code.co_filename) for code in codes if code is not None]
    return [file.name for file in files if str(file.parent) == SERVING and file.name not in LASTING]


def objects() -> list[str]:
    """What Python still holds of requests and connections that are over, once the pool is closed."""
    gc.collect()
    found = gc.get_objects()
    kept = [type(one).__name__ for one in found if isinstance(one, Exchange | Attempt | Front)]
    kept += ["open connection" for one in found if isinstance(one, UpstreamConnection) and one.transport is not None]
    return [f"{count} {name}" for name, count in Counter(kept).items()]


async def assert_at_rest(harness: Running, fleet: Fleet) -> None:
    """Nothing is left of any request: no task, socket, book entry, deadline or object."""
    with anyio.move_on_after(10):
        while remains(harness, fleet):
            await anyio.sleep(0.01)
    assert remains(harness, fleet) == []
    harness.gateway.pool.close()
    with anyio.move_on_after(5):
        while objects():
            await anyio.sleep(0.05)
    assert objects() == []
    for replica in fleet.replicas:
        assert replica.requests_seen <= replica.running + replica.completed + replica.aborted + replica.refused


def assert_accounts(harness: Running, asks: Sequence[Ask], verdicts: dict[str, str]) -> None:
    """Each request has one record, which says what its client saw; and the metrics add up to the records."""
    records = harness.records()
    seen = Counter(str(record["request_id"]) for record in records)
    assert seen == Counter(ask.id for ask in asks)
    by_id = {ask.id: ask for ask in asks}
    for record in records:
        ident = str(record["request_id"])
        _assert_record(by_id[ident], record, verdicts[ident])
    totals = _totals(harness)
    codes = Counter(str(record["status"]) for record in records)
    assert {code: totals["gateway_requests_total", code] for code in codes} == codes
    assert sum(count for (name, _), count in totals.items() if name == "gateway_requests_total") == len(records)
    retries = sum(count for (name, _), count in totals.items() if name == "gateway_retries_total")
    assert retries == sum(max(0, int(record["attempts"]) - 1) for record in records)
    for kind in ("prompt", "completion"):
        assert totals["gateway_tokens_total", kind] == sum(int(record[f"{kind}_tokens"] or 0) for record in records)


def _assert_record(ask: Ask, record: Record, verdict: str) -> None:
    status = record["status"]
    assert record["path"] == ask.path
    assert len(record["replicas"]) == record["attempts"]
    if verdict == LEFT:
        assert status in (200, 429, 499) or 500 <= status <= 504
    elif verdict in (EXACT, ABORTED, UNTOLD):
        assert status == 200
    elif verdict == REFUSED:
        assert status == 429 or 500 <= status <= 504
    else:
        assert 500 <= status <= 504
    if verdict == EXACT and (ask.stream or ask.path.endswith("completions")):
        assert (record["prompt_tokens"], record["completion_tokens"]) == counts(ask), (ask.kind, record)


def _totals(harness: Running) -> Counter[tuple[str, str]]:
    """Counters by their name and the label that matters: code, reason or kind."""
    page = harness.gateway.metrics.render().decode()
    found: Counter[tuple[str, str]] = Counter()
    for name, labels, value in re.findall(r"^(gateway_\w+_total)\{(.*)\} (\S+)$", page, re.M):
        told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        label = told.get("code") or told.get("reason") or told.get("kind") or ""
        found[name, label] += int(float(value))
    return found


def resumed(harness: Running) -> int:
    """How many times a stream went on at another replica."""
    found = re.search(
        r'^gateway_resumes_total\{outcome="resumed"\} (\S+)', harness.gateway.metrics.render().decode(), re.M
    )
    return int(float(found[1])) if found else 0
