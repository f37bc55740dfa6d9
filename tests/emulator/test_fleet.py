import httpx
import pytest

from gateway.emulator.fleet import Fleet

pytestmark = pytest.mark.anyio


async def test_the_control_port_reaches_dead_replicas(fleet: Fleet) -> None:
    """One replica by its index, or all of them; the state is listed for each."""
    assert fleet.control_url is not None
    async with httpx.AsyncClient(base_url=fleet.control_url) as control:
        await control.post("/emulator/faults", json={"fault": "die", "replica": 1})
        state = (await control.get("/emulator/state")).json()
        assert [(r["url"], r["listening"]) for r in state] == [(fleet.urls[0], True), (fleet.urls[1], False)]
        await control.post("/emulator/faults", json={"fault": "die"})
        answer = await control.post("/emulator/faults", json={"fault": "recover"})
        assert answer.json() == {"fault": "recover", "replicas": 2}
        for url in fleet.urls:
            assert (await control.get(url + "/health")).status_code == 200


async def test_wrong_commands_are_refused(fleet: Fleet, client: httpx.AsyncClient) -> None:
    """400 with the reason, from the control port and from a replica; other paths are 404."""
    for base in (str(fleet.control_url), fleet.urls[0]):
        answer = await client.post(base + "/emulator/faults", json={"fault": "explode"})
        assert answer.status_code == 400
        assert "explode" in answer.json()["error"]
        assert (await client.get(base + "/emulator/nope")).status_code == 404
    answer = await client.post(f"{fleet.control_url}/emulator/faults", json={"fault": "die", "replica": 9})
    assert answer.status_code == 400


async def test_state_of_one_replica(fleet: Fleet, client: httpx.AsyncClient) -> None:
    """The counts as JSON."""
    await client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1})
    state = (await client.get("/emulator/state")).json()
    assert (state["requests_seen"], state["completed"], state["aborted"], state["running"]) == (1, 1, 0, 0)


async def test_ports_follow_each_other_and_must_be_free() -> None:
    """A taken port is an OSError, and nothing is left open."""
    async with Fleet(1) as taken:
        port = taken.replica(0).port
        with pytest.raises(OSError):
            await Fleet(1, port=port).start()
    async with Fleet(1, port=port) as again:
        assert again.urls == [f"http://127.0.0.1:{port}"]


async def test_a_context_must_fit_the_cache() -> None:
    """As vLLM refuses to start."""
    with pytest.raises(ValueError, match="does not fit"):
        Fleet(1, max_model_len=10**9)
