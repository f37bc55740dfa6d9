"""GPU sources from the page to what is known of a replica's GPUs."""

import logging
from pathlib import Path

import httpx
import pytest
import respx

from gateway.core.fleet import Board
from gateway.core.gpu import Gpus
from gateway.core.types import FleetSnapshot, Replica, ReplicaId, ReplicaView
from gateway.telemetry.gpu import GpuTelemetry, Source
from gateway.telemetry.poller import NoAnswer
from tests.telemetry.fakes import ManualClock, Naps, client_of, run_until

pytestmark = pytest.mark.anyio
GOLDEN = Path(__file__).parent / "golden"
DCGM = Source("dcgm", "http://n1:9400", "node1")
URL = "http://n1:9400/metrics"


def telemetry(http: httpx.AsyncClient, *sources: Source, gpus: Gpus | None = None, **more: object) -> GpuTelemetry:
    names = ("node1:2", "node9:0")
    board = Board(FleetSnapshot((ReplicaView(Replica(ReplicaId("r0"), "http://r0", gpus=names)),)))
    seen = gpus if gpus is not None else Gpus(stale_after_s=10.0)
    made = {"interval_s": 1.0, "count": lambda _: None} | more
    return GpuTelemetry(sources, http, board, seen, ManualClock(), **made)


@pytest.mark.parametrize(
    ("kind", "page", "count"),
    [("dcgm", "dcgm_h100", 4), ("nvidia_smi", "nvidia_gpu_exporter", 2), ("amd", "amd_exporter", 2)],
)
async def test_each_kind_of_exporter(kind: str, page: str, count: int) -> None:
    """Its page, by its own reader; a URL with a path is asked as it is."""
    gpus = Gpus(stale_after_s=10.0)
    router = respx.Router()
    router.get("http://n1:1/other").respond(content=(GOLDEN / f"{page}.prom").read_bytes())
    source = Source(kind, "http://n1:1/other")
    async with client_of(router) as http:
        await telemetry(http, source, gpus=gpus).ask(source)
    assert len(gpus) == count


async def test_prometheus() -> None:
    """By its query API, also below a path."""
    gpus = Gpus(stale_after_s=10.0)
    metric = {"__name__": "DCGM_FI_DEV_GPU_TEMP", "UUID": "GPU-a", "gpu": "0"}
    router = respx.Router()
    route = router.get("http://p/prom/api/v1/query").respond(
        json={"status": "success", "data": {"result": [{"metric": metric, "values": [[99, "50"]]}]}}
    )
    source = Source("prometheus", "http://p/prom/")
    async with client_of(router) as http:
        built = telemetry(http, source, gpus=gpus)
        assert await built.ask(source) is None
        route.respond(json={"status": "success", "data": {"result": []}})
        with pytest.raises(NoAnswer, match="no GPU series"):
            await built.ask(source)
        route.respond(text="<html>")
        with pytest.raises(NoAnswer, match="none of Prometheus"):
            await built.ask(source)
    assert gpus.views(["GPU-a"], 100.0)[0].temp_c == 50


async def test_what_is_wrong_with_a_page() -> None:
    """No GPU at all, none that could be named, or figures that cannot be."""
    router = respx.Router()
    route = router.get(URL)
    async with client_of(router) as http:
        built = telemetry(http, DCGM)
        route.respond(text="<html>502</html>")
        with pytest.raises(NoAnswer, match="a page without GPUs of dcgm"):
            await built.ask(DCGM)
        route.respond(text='DCGM_FI_DEV_GPU_TEMP{UUID="GPU-a"} NaN\n')
        assert await built.ask(DCGM) == "neither temperatures nor clocks that can be right"
        route.respond(text='DCGM_FI_DEV_GPU_TEMP{gpu="x"} 50\n')
        assert await built.ask(DCGM) == "a GPU without UUID, host and index by which a replica could name it"


async def test_half_a_page_is_wrong_and_what_is_whole_counts() -> None:
    """The line that was cut says nothing, also not half of its value."""
    gpus = Gpus(stale_after_s=10.0)
    router = respx.Router()
    router.get(URL).respond(text='DCGM_FI_DEV_GPU_TEMP{UUID="GPU-a"} 50\nDCGM_FI_DEV_SM_CLOCK{UUID="GPU-a"} 19')
    async with client_of(router) as http:
        assert await telemetry(http, DCGM, gpus=gpus).ask(DCGM) == "a page with lines that cannot be read"
    (view,) = gpus.views(["a"], 100.0)
    assert (view.temp_c, view.clock_mhz) == (50, None)


async def test_what_people_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A source without reasons, and GPUs of the config that none of the sources shows."""
    caplog.set_level(logging.WARNING, logger="gateway.telemetry")
    other = Source("dcgm", "http://n2:9400", "node2")
    router = respx.Router()
    for source in (DCGM, other):
        router.get(f"{source.url}/metrics").respond(content=(GOLDEN / "dcgm_h100_default_csv.prom").read_bytes())
    async with client_of(router) as http:
        built = telemetry(http, DCGM, other)
        for source in (DCGM, DCGM, other, other):
            assert await built.ask(source) is None
    assert [record.message for record in caplog.records] == [
        "GPU source dcgm http://n1:9400 (node1) shows no reasons for low clocks: no throttling is seen; "
        "see gateway check",
        "replica r0: no GPU source shows its GPU node9:0",
        "GPU source dcgm http://n2:9400 (node2) shows no reasons for low clocks: no throttling is seen; "
        "see gateway check",
    ]


async def test_each_source_has_its_own_loop() -> None:
    """A dead one is counted, and delays no other."""
    counted: list[str] = []
    gpus = Gpus(stale_after_s=10.0)
    router = respx.Router()
    router.get(URL).respond(content=(GOLDEN / "dcgm_h100.prom").read_bytes())
    router.get("http://n2:1/metrics").mock(side_effect=httpx.ConnectError("refused"))
    async with client_of(router) as http:
        dead = Source("nvidia_smi", "http://n2:1")
        built = telemetry(http, dead, DCGM, gpus=gpus, count=counted.append, sleep=Naps(limit=10**9))
        assert repr(built) == "<GpuTelemetry of 2 sources>"
        await run_until(built.run, lambda: len(gpus) == 4 and len(counted) > 2)
    assert set(counted) == {"nvidia_smi"}
