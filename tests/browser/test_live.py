"""The dashboard of a whole gateway in front of the emulated fleet, in a real browser."""

import anyio.to_thread
import httpx
import msgspec
import pytest

from gateway.config import Admin, ReplicaConfig, Resilience
from gateway.config.keys import Probe
from gateway.emulator.fleet import Fleet
from tests.browser.conftest import Render
from tests.browser.page import cells, parse
from tests.running import config_for, running

pytestmark = [pytest.mark.anyio, pytest.mark.browser, pytest.mark.slow]

HELLO = {"model": "emulated", "stream": True, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


async def test_every_replica_has_its_row(render: Render) -> None:
    """Also one that is out, and one whose name has all the signs that a config allows; the token is in the address."""
    async with Fleet(2, speed=50) as fleet:
        replicas = (
            ReplicaConfig(url=fleet.urls[0], name="[::1]:8000-a_b.C"),
            ReplicaConfig(url=fleet.urls[1], name="r1"),
            ReplicaConfig(url="http://127.0.0.1:9", name="down"),
        )
        config = msgspec.structs.replace(
            config_for([], resilience=Resilience(probe=Probe(interval_s=0.1, fall=1))),
            replicas=replicas,
            admin=Admin(port=0, token="t&k#n"),
        )
        async with running(config, wait_ready=False) as harness:
            with anyio.fail_after(20):
                while [view.state for view in harness.gateway.board.current.replicas] != ["ready", "ready", "ejected"]:
                    await anyio.sleep(0.005)
            async with httpx.AsyncClient(base_url=harness.url, timeout=20, trust_env=False) as http:
                answer = await http.post("/v1/chat/completions", json=HELLO)
            await harness.settled(1)
            html = await anyio.to_thread.run_sync(render, f"{harness.admin_url}/dashboard?token=t%26k%23n")
    page = parse(html)
    rows = cells(page)
    names = ["[::1]:8000-a_b.C", "r1", "down"]
    assert [row["Replica"].startswith(name) for row, name in zip(rows, names, strict=True)] == [True] * 3
    assert [row["State"] for row in rows] == ["ready", "ready", "ejected"]
    assert page.by_id("contact").text == "live"
    assert page.by_id("summary").text == "2 of 3 ready"
    served = names.index(answer.headers["x-gateway-replica"])
    assert (rows[served]["Requests"], rows[served]["Failed"]) == ("1", "0")
    assert rows[served]["TTFT p50"].endswith("ms")
    assert rows[2]["TTFT p50"] == "–"
    assert "models not known" in rows[2]["Replica"]
