"""The exporter's page: dcgm-exporter's lines, and a running fleet's GPUs on it."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.emulator.dcgm import page, uuid
from gateway.emulator.engine import EngineParams
from gateway.emulator.fleet import Fleet
from gateway.emulator.gpu import FULL_W, IDLE_W, Gpu
from tests.emulator.peer import chat

pytestmark = pytest.mark.anyio
Values = dict[str, list[float]]


def test_the_lines() -> None:
    """Byte for byte: HELP, TYPE, then a line for each GPU with its labels in dcgm-exporter's order."""
    text = page([(0, Gpu(0).look(1.0, 0.0)), (9, Gpu(9).look(1.0, 1.0))]).decode()
    lines = text.splitlines()
    assert lines[:3] == [
        "# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).",
        "# TYPE DCGM_FI_DEV_SM_CLOCK gauge",
        'DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-00000000-0000-4000-8000-000000000000",pci_bus_id="00000000:18:00.0",'
        'device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="emulated"} 345',
    ]
    assert lines[3].startswith(
        f'DCGM_FI_DEV_SM_CLOCK{{gpu="9",UUID="{uuid(9)}",pci_bus_id="00000001:28:00.0",device="nv'
    )
    assert text.endswith("\n")
    assert "\nDCGM_FI_DEV_POWER_USAGE{" in text
    assert "} 650.000000\n" in text
    kinds = {family.name: family.type for family in text_string_to_metric_families(text)}
    assert kinds == {
        f"DCGM_FI_DEV_{name}": "counter" if name == "TOTAL_ENERGY_CONSUMPTION" else "gauge"
        for name in (
            "SM_CLOCK",
            "MEM_CLOCK",
            "MEMORY_TEMP",
            "GPU_TEMP",
            "POWER_USAGE",
            "TOTAL_ENERGY_CONSUMPTION",
            "GPU_UTIL",
            "XID_ERRORS",
            "CLOCKS_EVENT_REASONS",
        )
    }


async def scrape(fleet: Fleet) -> Values:
    """Name without its beginning -> the value of each GPU, in order."""
    async with httpx.AsyncClient(base_url=fleet.gpu_url or "") as http:
        answer = await http.get("/metrics")
    values: Values = {}
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            values.setdefault(name.partition("{")[0].removeprefix("DCGM_FI_DEV_"), []).append(float(value))
    return values


async def command(fleet: Fleet, **fault: object) -> None:
    async with httpx.AsyncClient(base_url=fleet.control_url or "") as http:
        answer = await http.post("/emulator/faults", json=fault)
        assert answer.status_code == 200, answer.text


async def work(fleet: Fleet, index: int, tokens: int = 200) -> float:
    """Let a replica write so many tokens. What its engine was at work for, in seconds of its own time."""
    engine, driver = fleet.replica(index).driver.engine, fleet.replica(index).driver
    before = engine.busy_s(driver.now())
    async with httpx.AsyncClient(base_url=fleet.replica(index).url, timeout=30) as http:
        answer = await http.post("/v1/chat/completions", json=chat("x", max_tokens=tokens, ignore_eos=True))
    assert answer.status_code == 200
    return engine.busy_s(driver.now()) - before


async def test_a_throttle_is_felt_and_seen() -> None:
    """One command slows the engine and shows on the exporter; recover undoes both. The other GPU notices nothing."""
    async with Fleet(2, control_port=0, gpu_port=0, speed=10) as fleet:
        nominal_s = await work(fleet, 0)
        await work(fleet, 1)
        seen = await scrape(fleet)
        assert all(util > 0 for util in seen["GPU_UTIL"])
        assert seen["CLOCKS_EVENT_REASONS"] == [0, 0]
        await command(fleet, replica=0, fault="throttle", factor=0.5, memory=0.5)
        assert await work(fleet, 0) == pytest.approx(2 * nominal_s, rel=0.02)
        await work(fleet, 1)
        seen = await scrape(fleet)
        assert seen["SM_CLOCK"] == [990, 1980]
        assert seen["CLOCKS_EVENT_REASONS"] == [0x60, 0]
        assert seen["GPU_TEMP"][0] == 88
        assert seen["TOTAL_ENERGY_CONSUMPTION"][0] > 0
        await command(fleet, fault="recover")
        assert await work(fleet, 0) == pytest.approx(nominal_s, rel=0.02)
        assert (await scrape(fleet))["SM_CLOCK"][0] == 1980


async def test_hot_memory_is_felt_and_hardly_seen() -> None:
    """Decoding is slower by the memory's share, and neither a clock nor a bit tells."""
    async with Fleet(1, control_port=0, gpu_port=0, speed=50) as fleet:
        nominal_s = await work(fleet, 0)
        await command(fleet, fault="throttle", cause="hbm")
        slow_s = await work(fleet, 0)
        assert 1.2 < slow_s / nominal_s < 1.35
        seen = await scrape(fleet)
        assert (seen["SM_CLOCK"], seen["MEM_CLOCK"], seen["CLOCKS_EVENT_REASONS"]) == ([1980], [2619], [0])
        assert seen["MEMORY_TEMP"] == [97]


async def test_a_pair_is_as_slow_as_its_slower_gpu() -> None:
    """A tensor-parallel replica has two GPUs; one of them is throttled, and `slow` beside it changes nothing."""
    pair = EngineParams.named("70b-fp8-2h100")
    async with Fleet(2, control_port=0, gpu_port=0, speed=200, params=pair) as fleet:
        nominal_s = await work(fleet, 1, 50)
        await command(fleet, replica=1, fault="slow", factor=0.9, memory=0.9)
        await command(fleet, replica=1, fault="throttle", factor=0.5, memory=0.5)
        assert await work(fleet, 1, 50) == pytest.approx(2 * nominal_s, rel=0.05)
        assert (await scrape(fleet))["SM_CLOCK"] == [345, 345, 990, 1980]
        await command(fleet, replica=1, fault="xid", xid=48)
        assert (await scrape(fleet))["XID_ERRORS"] == [0, 0, 48, 0]


async def test_speed_changes_no_engine_second() -> None:
    """The same work takes the same engine time at any speed, and its energy is that of this time."""
    busy_s = []
    for speed in (20, 100):
        async with Fleet(1, speed=speed) as fleet:
            busy_s.append(await work(fleet, 0, 300))
            ((_, seen),) = fleet.replica(0).look_at_gpus()
            idle_j = IDLE_W * fleet.replica(0).driver.now()
            assert seen.energy_mj / 1000 == pytest.approx(idle_j + (FULL_W - IDLE_W) * busy_s[-1], rel=0.05)
    assert busy_s[0] == pytest.approx(busy_s[1], rel=0.01)


async def test_the_exporter_has_one_page() -> None:
    """/metrics and /health; the rest is 404. A dead replica's GPU is still there."""
    async with Fleet(1, gpu_port=0) as fleet:
        fleet.replica(0).fault("die")
        async with httpx.AsyncClient(base_url=fleet.gpu_url or "") as http:
            assert (await http.get("/health")).status_code == 200
            answer = await http.get("/metrics")
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert (await http.get("/")).status_code == 404
            assert (await http.post("/metrics")).status_code == 404
    assert Fleet(1).gpu_url is None


@pytest.mark.parametrize("wrong", [{"cause": "moon"}, {"factor": 0}, {"memory": -1}])
async def test_a_throttle_that_cannot_be(wrong: dict[str, object]) -> None:
    """400, and nothing is changed."""
    async with Fleet(1, control_port=0) as fleet:
        async with httpx.AsyncClient(base_url=fleet.control_url or "") as http:
            assert (await http.post("/emulator/faults", json={"fault": "throttle"} | wrong)).status_code == 400
        assert fleet.replica(0).gpus[0].clock == 1.0
