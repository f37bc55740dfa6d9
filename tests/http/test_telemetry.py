"""Telemetry over real sockets: what engines and exporters tell arrives, and what is bad about them stops nothing."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from gateway.config import Config
from gateway.config.keys import EngineTelemetry, GpuSource, GpuTelemetry, Telemetry
from gateway.emulator.fleet import Fleet
from tests.running import Running, config_for, running

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
STALE_S = 1.0
FAST = EngineTelemetry(interval_s=0.02, timeout_s=20.0, stale_after_s=STALE_S)


def with_telemetry(config: Config, gpus: Mapping[str, tuple[str, ...]] | None = None, **gpu: Any) -> Config:
    """The same, its engines and sources asked all the time."""
    telemetry = Telemetry(engine=FAST, gpu=GpuTelemetry(interval_s=0.02, stale_after_s=STALE_S, **gpu))
    named = [msgspec.structs.replace(entry, gpus=(gpus or {}).get(entry.name or "", ())) for entry in config.replicas]
    return msgspec.structs.replace(config, telemetry=telemetry, replicas=tuple(named))


async def state(harness: Running) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer: dict[str, Any] = (await client.get(f"{harness.admin_url}/dashboard/state.json")).json()
    return answer


async def until_row(harness: Running, right: Callable[[dict[str, Any]], bool], replica: int = 0) -> dict[str, Any]:
    """The dashboard's row of a replica, once it is so."""
    with anyio.fail_after(30):
        while not right(row := (await state(harness))["replicas"][replica]):
            await anyio.sleep(0.01)
    return row


async def ask(harness: Running, max_tokens: int = 4) -> int:
    """The status of a chat of so many tokens."""
    body = {"model": "emulated", "messages": [{"role": "user", "content": "hello"}], "max_tokens": max_tokens}
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.post(f"{harness.url}/v1/chat/completions", json=body)).status_code


def sample(harness: Running, series: str) -> float | None:
    """The value of one series of /metrics, by its whole name."""
    lines = harness.gateway.metrics.render().decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{series} ")), None)


Pages = dict[str, list[bytes]]


@contextlib.asynccontextmanager
async def pages(answers: Pages) -> AsyncIterator[str]:
    """A server whose every path gives the bytes of its list, one by one, and the last for ever, then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            left = answers[head.split(b" ")[1].decode()]
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def page(body: str | bytes, length: int | None = None) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    return b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (length or len(raw), raw)


def dcgm(index: int = 0, temp: object = 60, clock: object = 1980, mask: object = 0, stamp: str = "") -> str:
    labels = f'gpu="{index}",UUID="GPU-{index}"'
    return (
        f"DCGM_FI_DEV_GPU_TEMP{{{labels}}} {temp}{stamp}\n"
        f"DCGM_FI_DEV_SM_CLOCK{{{labels}}} {clock}{stamp}\n"
        f"DCGM_FI_DEV_CLOCKS_EVENT_REASONS{{{labels}}} {mask}{stamp}\n"
    )


async def test_what_engines_tell_arrives() -> None:
    """KV cache, running requests and capacity on the dashboard, in /metrics, and in the size of the index."""
    async with Fleet(1) as fleet, running(with_telemetry(config_for(fleet.urls, policy="prefix"))) as harness:
        row = await until_row(harness, lambda row: row["engine"] is not None)
        assert row["engine"]["kv_capacity_tokens"] == 400_000
        assert row["engine"]["kv_usage_ratio"] == 0.0
        async with anyio.create_task_group() as group:
            group.start_soon(ask, harness, 3000)
            running_there = 'gateway_replica_running_requests{replica="r0"}'
            await until_row(harness, lambda row: row["engine"]["running"] == 1 == sample(harness, running_there))
            await until_row(harness, lambda row: (row["engine"]["kv_usage_ratio"] or 0) > 0)
            group.cancel_scope.cancel()
        view = harness.gateway.board.current.replicas[0]
        assert view.kv is not None
        assert view.kv.capacity_tokens == 400_000


async def test_an_engine_that_falls_silent_is_unknown_and_serves(caplog: pytest.LogCaptureFixture) -> None:
    """It is priced as one with room; the log says it once."""
    caplog.set_level(logging.INFO, logger="gateway.telemetry")
    answers: Pages = {
        "/health": [page("")],
        "/v1/models": [page('{"data": [{"id": "m"}]}')],
        "/metrics": [
            page('vllm:kv_cache_usage_perc{engine="0"} 0.5\n'
                 'vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="100"} 1\n'),
        ],
    }  # fmt: skip
    async with pages(answers) as url, running(with_telemetry(config_for([url]))) as harness:
        await until_row(harness, lambda row: row["engine"] is not None and row["engine"]["kv_usage_ratio"] == 0.5)
        answers["/metrics"] = [page("<html>502</html>")]
        row = await until_row(harness, lambda row: row["engine"]["kv_usage_ratio"] is None)
        assert row["engine"]["age_s"] > STALE_S
        assert harness.gateway.board.current.replicas[0].kv is None
        failures = 'gateway_telemetry_failures_total{source="engine"}'
        await until_row(harness, lambda row: (sample(harness, failures) or 0) >= 1)
        told = [record.message for record in caplog.records if "engine metrics" in record.message]
        assert told == [
            "engine metrics of replica r0: a page without metrics of vllm; what it would tell counts as unknown"
        ]


async def test_a_restart_empties_the_index() -> None:
    """Totals that begin anew: what was sent there is not in its cache any more."""

    def told(queries: int) -> bytes:
        return page(f'vllm:prefix_cache_queries_total{{engine="0"}} {queries}\n')

    answers: Pages = {"/health": [page("")], "/v1/models": [page('{"data": [{"id": "m"}]}')], "/metrics": [told(100)]}
    async with pages(answers) as url, running(with_telemetry(config_for([url]))) as harness:
        await until_row(harness, lambda row: row["engine"] is not None)
        replica = harness.gateway.board.current.replicas[0].id
        harness.gateway.desk.index.record(replica, (1, 2, 3))
        answers["/metrics"] = [told(3)]
        with anyio.fail_after(10):
            while harness.gateway.desk.index.blocks(replica):
                await anyio.sleep(0.01)


async def test_a_hot_gpu_slows_its_replica_and_recovers() -> None:
    """A tensor-parallel replica is as slow as its slowest GPU; the other replica is not touched."""
    hot = [page(dcgm(0) + dcgm(1, temp=88, clock=990, mask=0x40) + dcgm(2))]
    fine = [page(dcgm(0) + dcgm(1) + dcgm(2))]
    answers: Pages = {"/metrics": list(fine)}
    async with Fleet(2, speed=50) as fleet, pages(answers) as url:
        config = with_telemetry(
            config_for(fleet.urls, policy="prefix"),
            {"r0": ("n:0", "n:1"), "r1": ("GPU-2",)},
            sources=(GpuSource(dcgm=url, host="n"),),
        )
        async with running(config) as harness:
            row = await until_row(harness, lambda row: row["slowdown"]["gpu"] == 1.0)
            answers["/metrics"] = hot
            row = await until_row(harness, lambda row: row["slowdown"]["used"] == 2.0)
            assert [gpu["throttled_by"] for gpu in row["gpus"]] == [[], ["hw_thermal"]]
            assert sample(harness, 'gateway_replica_slowdown_ratio{replica="r0",source="used"}') == 2.0
            assert sample(harness, 'gateway_replica_slowdown_ratio{replica="r1",source="used"}') == 1.0
            throttled = 'gateway_gpu_throttled{gpu="n:1",reason="hw_thermal",replica="r0"}'
            assert sample(harness, throttled) == 1
            answers["/metrics"] = fine
            await until_row(harness, lambda row: row["slowdown"]["used"] == 1.0)
            assert await ask(harness) == 200


def _sources() -> dict[str, list[bytes]]:
    good = dcgm(7)
    return {
        "/html": [page("<html>hello</html>")],
        "/huge": [page(b"# " + b"x" * 50_000_000)],
        "/half": [page(dcgm(2)[:-5])],
        "/cut": [page(dcgm(3), length=10**6)],
        "/gzip": [page(b"\x1f\x8b\x08\x00" * 9)],
        "/nan": [page(dcgm(5, temp="NaN", clock="NaN", mask="NaN"))],
        "/negative": [page(dcgm(6, temp=-1, clock=-1, mask=-1))],
        "/twice": [page(good + good)],
        "/labels": [page('DCGM_FI_DEV_GPU_TEMP{gpu="8"} 50\nDCGM_FI_DEV_GPU_TEMP{gpu=8} 50\n')],
        "/old": [page(dcgm(9, stamp=" 1000"))],
        "/nobody": [b""],
        "/noise": [b"\x00\xff" * 100],
    }


def temperatures(row: dict[str, Any]) -> dict[str, float]:
    """Those that are known, by GPU."""
    return {gpu["name"]: gpu["temp_c"] for gpu in row["gpus"] if gpu["temp_c"] is not None}


async def test_bad_sources_stop_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Each is logged once and counted, what it would tell is unknown, the good one beside them is read, and requests
    are served all the while."""
    caplog.set_level(logging.INFO, logger="gateway.telemetry")
    bad = _sources()
    answers: Pages = {**bad, "/good": [page(dcgm(1))]}
    async with Fleet(1, speed=50) as fleet, pages(answers) as url:
        config = with_telemetry(
            config_for(fleet.urls),
            {"r0": ("n:1", *(f"n:{index}" for index in range(2, 10)))},
            sources=tuple(GpuSource(dcgm=f"{url}{path}", host="n") for path in ("/good", *bad)),
        )
        async with running(config) as harness:
            await until_row(harness, lambda row: row["gpus"][0]["temp_c"] == 60)
            for _ in range(20):
                assert await ask(harness) == 200
            told: dict[str, int] = {}
            with anyio.fail_after(30):
                while len(told) < len(bad):
                    await anyio.sleep(0.02)
                    lines = [record.message for record in caplog.records if "counts as unknown" in record.message]
                    told = {path: sum(f"{path} (n): " in line for line in lines) for path in bad}
                    told = {path: count for path, count in told.items() if count}
            assert set(told.values()) == {1}
            # Of "/half" and "/labels", what can be read of them; on a busy machine it may be too old for a moment.
            whole = {"n:1": 60, "n:2": 60, "n:8": 50}
            row = await until_row(harness, lambda row: temperatures(row) == whole)
            assert {gpu["slowdown"] for gpu in row["gpus"][1:]} == {None}
            assert (sample(harness, 'gateway_telemetry_failures_total{source="dcgm"}') or 0) >= len(bad)
            assert row["slowdown"]["used"] is None


async def test_a_set_of_gpus_that_changes() -> None:
    """One that comes is known, one that goes becomes unknown; nothing is taken for well by accident."""
    answers: Pages = {"/metrics": [page(dcgm(0))]}
    async with Fleet(1, speed=50) as fleet, pages(answers) as url:
        config = with_telemetry(
            config_for(fleet.urls), {"r0": ("n:0", "n:1")}, sources=(GpuSource(dcgm=url, host="n"),)
        )
        async with running(config) as harness:
            await until_row(harness, lambda row: [gpu["temp_c"] for gpu in row["gpus"]] == [60, None])
            answers["/metrics"] = [page(dcgm(1))]
            row = await until_row(harness, lambda row: [gpu["temp_c"] for gpu in row["gpus"]] == [None, 60])
            assert row["slowdown"]["gpu"] is None
