"""What each fault does to a client, byte for byte where it matters."""

import asyncio
import json
import socket

import anyio.lowlevel
import httpx
import msgspec
import pytest

from gateway.emulator.faults import Fault, FaultPlan, read_fault
from gateway.emulator.fleet import Fleet
from tests.emulator.peer import Peer, chat, connect, events, told

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
LONG = chat("x", max_tokens=20000, ignore_eos=True, stream=True)


def test_counted_faults_come_before_the_lasting_one() -> None:
    """In their order; each request uses up one, and probes none."""
    plan = FaultPlan()
    plan.add(Fault(fault="hang"))
    plan.add(Fault(fault="error", times=2))
    plan.add(Fault(fault="garbage", times=1))
    assert plan.take(inference=False) is None
    met = [plan.take(inference=True) for _ in range(5)]
    assert [fault.fault for fault in met if fault] == ["error", "error", "garbage", "hang", "hang"]
    plan.clear()
    assert plan.take(inference=True) is None


def test_commands_are_checked() -> None:
    """Unknown faults and fields are errors that name them; the cut has a short form."""
    assert read_fault(b'{"cut_after_bytes": 7}').after_bytes == 7
    for raw in (b'{"fault":"explode"}', b'{"fault":"die","often":1}', b"[]", b"{"):
        with pytest.raises(msgspec.MsgspecError):
            read_fault(raw)


async def test_die_and_recover(fleet: Fleet) -> None:
    """Streams are reset in the middle, the port refuses; after recover it serves again at the same port."""
    replica = fleet.replica(0)
    for _ in range(2):
        async with connect(replica) as peer:
            peer.post(CHAT, LONG)
            await peer.until(b'"content":" ')
            replica.fault("die")
            assert b"[DONE]" not in await peer.rest()
        with pytest.raises(ConnectionRefusedError):
            async with connect(replica):
                pass
        await replica.until(lambda r: r.running == 0)
        replica.recover()
        async with httpx.AsyncClient(base_url=replica.url) as client:
            assert (await client.post(CHAT, json=chat("x", max_tokens=2))).status_code == 200


@pytest.mark.parametrize("dead", [True, False])
async def test_a_restart_that_is_cut_short(dead: bool) -> None:
    """Whatever comes in one go, the last word holds, and only one listener is left (which the loop would warn of)."""
    async with Fleet(1, speed=100) as fleet:
        replica = fleet.replica(0)
        for _ in range(3):
            replica.fault("die")
            replica.recover()
        if dead:
            replica.fault("die")
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        if dead:
            with pytest.raises(ConnectionRefusedError):
                async with connect(replica):
                    pass
            replica.recover()
        async with httpx.AsyncClient(base_url=replica.url) as client:
            assert (await client.post(CHAT, json=chat("x", max_tokens=2))).status_code == 200


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_is_about_to_be_accepted(fleet: Fleet, turns: int) -> None:
    """It is reset, too, however far the loop has come with it: a dead process keeps none."""
    replica = fleet.replica(0)
    with socket.create_connection((replica.host, replica.port)) as client:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        replica.fault("die")
        client.setblocking(False)
        with anyio.fail_after(5), pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(client, 1)
        assert replica.connections == 0


async def test_go_silent(fleet: Fleet) -> None:
    """The port refuses while the open stream gets no byte and no end."""
    replica = fleet.replica(0)
    async with connect(replica) as peer:
        peer.post(CHAT, LONG)
        await peer.until(b'"content":" ')
        replica.fault("go_silent")
        with pytest.raises(ConnectionRefusedError):
            async with connect(replica):
                pass
        assert (replica.running, replica.connections) == (1, 1)
        replica.fault("die")
        await peer.rest()


async def test_freeze_and_thaw(fleet: Fleet, client: httpx.AsyncClient) -> None:
    """Health says fine and requests hang; after recover they go on."""
    replica = fleet.replica(0)
    replica.fault("freeze")
    async with connect(replica) as peer:
        peer.post(CHAT, chat("x", max_tokens=3, stream=True))
        await replica.until(lambda r: r.running == 1)
        assert (await client.get("/health")).status_code == 200
        assert "vllm:num_requests_running" in (await client.get("/metrics")).text
        assert replica.completed == 0
        replica.recover()
        assert b"data: [DONE]" in await peer.until(b"0\r\n\r\n")


async def test_error_with_a_count(client: httpx.AsyncClient, fleet: Fleet) -> None:
    """The status for so many requests, then all is well; health never notices."""
    fleet.replica(0).fault("error", status=503, times=2, retry_after_s=7)
    answers = [await client.post(CHAT, json=chat("x", max_tokens=1)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[0].json()["error"]["type"] == "Service Unavailable"
    assert (await client.get("/health")).status_code == 200


async def test_everywhere_strikes_probes_too(client: httpx.AsyncClient, fleet: Fleet) -> None:
    """Without it, faults are for inference requests only; the control endpoint always answers."""
    fleet.replica(0).fault("error", status=500, everywhere=True)
    assert (await client.get("/health")).status_code == 500
    assert (await client.post("/emulator/faults", json={"fault": "recover"})).status_code == 200
    assert (await client.get("/health")).status_code == 200


async def test_draining(client: httpx.AsyncClient, fleet: Fleet) -> None:
    """vLLM's 500 for new requests while /health says 200."""
    fleet.replica(0).fault("draining")
    answer = await client.post(CHAT, json=chat("x"))
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "InternalServerError")


async def test_hang(fleet: Fleet) -> None:
    """The request is taken and nothing comes back; leaving counts as an abort."""
    replica = fleet.replica(0)
    replica.fault("hang")
    async with connect(replica) as peer:
        peer.post(CHAT, LONG)
        await replica.until(lambda r: r.running == 1)
    await replica.until(lambda r: r.aborted == 1)


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        ("garbage", b"\x16\x03\x01", b"\r\n"),
        ("half_head", b"HTTP/1.1 200 OK\r\n", b"content-type: "),
        ("short_body", b"HTTP/1.1 200 OK\r\n", b'{"id":"cut-sho'),
        ("close_early", b"", b""),
    ],
)
async def test_broken_answers(fleet: Fleet, kind: str, start: bytes, end: bytes) -> None:
    """Raw bytes instead of an answer, then the end of the connection."""
    replica = fleet.replica(0)
    replica.fault(kind, times=1)
    async with connect(replica) as peer:
        peer.post(CHAT, LONG)
        got = await peer.rest()
    assert got.startswith(start)
    assert got.endswith(end)
    assert bool(got) == bool(start)
    await replica.until(lambda r: r.aborted == 1)


async def test_a_half_head_may_stay_open(fleet: Fleet) -> None:
    """With stay_open it goes silent instead of closing."""
    replica = fleet.replica(0)
    replica.fault("half_head", stay_open=True)
    async with connect(replica) as peer:
        peer.post(CHAT, LONG)
        await peer.until(b"server: uvicorn\r\n")
        assert replica.connections == 1


async def test_endless_head(fleet: Fleet) -> None:
    """Header lines for as long as they are read; no memory is filled when they are not."""
    replica = fleet.replica(0)
    replica.fault("endless_head")
    async with connect(replica) as peer:
        peer.post(CHAT, LONG)
        assert b"\r\n\r\n" not in await peer.reader.readexactly(1 << 20)
    await replica.until(lambda r: r.aborted == 1)


async def test_bad_chunk(fleet: Fleet) -> None:
    """After so many tokens comes a chunk length that is none."""
    replica = fleet.replica(0)
    replica.fault("bad_chunk", after_tokens=2)
    async with connect(replica) as peer:
        peer.post(CHAT, LONG)
        got = await peer.rest()
    assert got.endswith(b"zz\r\nnot a chunk\r\n")
    assert got.count(b"data: ") >= 2


@pytest.mark.parametrize("stream", [True, False])
async def test_cut_after_bytes(fleet: Fleet, stream: bool) -> None:
    """Exactly so many body bytes arrive; chunked framing is left unfinished."""
    replica = fleet.replica(0)
    replica.fault("cut_after_bytes", after_bytes=300)
    async with connect(replica) as peer:
        peer.post(CHAT, chat("x", max_tokens=50, ignore_eos=True, stream=stream))
        _, _, body = (await peer.rest()).partition(b"\r\n\r\n")
    assert len(dechunked(body) if stream else body) == 300


def dechunked(body: bytes) -> bytes:
    """The payload of chunks, the last of which may be incomplete."""
    payload = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        payload += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return payload


async def test_stall(fleet: Fleet) -> None:
    """After so many tokens the stream is silent; it is open, and still counted as running."""
    replica = fleet.replica(0)
    replica.fault("stall", after_tokens=3, times=1)
    async with connect(replica) as peer:
        peer.post(CHAT, chat("x", max_tokens=5, ignore_eos=True, stream=True, return_token_ids=True))
        await read_tokens(peer, 3)
        await other_request(replica.url)
        assert (replica.running, replica.completed) == (1, 1)


async def read_tokens(peer: Peer, count: int) -> None:
    """Read events until they have told so many tokens."""
    told_ids = 0
    while told_ids < count:
        line = (await peer.until(b"\n\n")).rpartition(b"data: ")[2]
        told_ids += sum(len(choice.get("token_ids") or ()) for choice in json.loads(line)["choices"])
    assert told_ids == count


async def other_request(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.post(CHAT, json=chat("y", max_tokens=20))).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_abort(client: httpx.AsyncClient, fleet: Fleet, stream: bool) -> None:
    """A complete answer with finish_reason abort and the text so far: what a stopped vLLM may send."""
    fleet.replica(0).fault("abort", after_tokens=4)
    answer = await client.post(CHAT, json=chat("x", max_tokens=50, ignore_eos=True, stream=stream))
    assert answer.status_code == 200
    last = events(answer)[-1] if stream else answer.json()
    assert last["choices"][0]["finish_reason"] == "abort"
    assert answer.text.endswith("data: [DONE]\n\n") == stream
    if stream:
        assert told(answer)


async def test_engine_error(client: httpx.AsyncClient, fleet: Fleet) -> None:
    """An error event and [DONE] in a stream with correct framing, a plain 500 elsewhere."""
    fleet.replica(0).fault("engine_error", after_tokens=2)
    streamed = await client.post(CHAT, json=chat("x", max_tokens=50, ignore_eos=True, stream=True))
    assert events(streamed)[-1]["error"]["code"] == 500
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert (await client.post(CHAT, json=chat("x"))).status_code == 500


async def test_lasting_faults_strike_running_streams(fleet: Fleet) -> None:
    """A stream under way ends at its next token when the engine breaks; a counted fault waits for the next request."""
    replica = fleet.replica(0)
    async with connect(replica) as peer:
        peer.post(CHAT, LONG)
        await peer.until(b'"content":" ')
        replica.fault("engine_error", times=1)
        await peer.until(b'"content":" ')
        replica.fault("engine_error")
        assert b'"code":500' in await peer.until(b"[DONE]")


async def test_slow(client: httpx.AsyncClient, fleet: Fleet) -> None:
    """The engine's clock is throttled; the answer is the same."""
    replica = fleet.replica(0)
    await client.post("/emulator/faults", json={"fault": "slow", "factor": 0.5})
    assert (await client.post(CHAT, json=chat("x", max_tokens=2))).status_code == 200
    replica.recover()
