"""The gateway as a whole, on real sockets: both ports, what is wired to what, and what never gets out."""

import gc
from collections.abc import Sequence

import anyio
import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.config import Admin, Config, ReplicaConfig
from gateway.config.keys import POLICIES as CONFIGURED
from gateway.core.policies import POLICIES
from gateway.emulator.fleet import Fleet
from tests.running import Running, config_for, running

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
HELLO = {"model": "emulated", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
NOBODY = "http://127.0.0.1:9"
"""Where nothing listens: the discard port."""


def client(url: str, **more: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=20, trust_env=False, **more)


async def settled_chats(harness: Running, bodies: Sequence[dict[str, object]]) -> list[httpx.Response]:
    """Each body's answer; all of them are settled."""
    async with client(harness.url) as http:
        answers = [await http.post(CHAT, json=body) for body in bodies]
    await harness.settled(len(bodies))
    return answers


def test_every_policy_of_the_config_can_be_built() -> None:
    """`gateway serve` without a config ended with a KeyError while the default policy was not in the registry."""
    assert set(CONFIGURED) == set(POLICIES)


async def test_models_are_the_union_of_two_fleets() -> None:
    """What replicas really serve, by way of the poller; a name with a slash is found, encoded or not."""
    async with (
        Fleet(1, models=("b", "org/a")) as one,
        Fleet(1, models=("b", "c")) as two,
        running(config_for([*one.urls, *two.urls])) as harness,
        client(harness.url) as http,
    ):
        assert [model["id"] for model in (await http.get("/v1/models")).json()["data"]] == ["b", "c", "org/a"]
        for path in ("/v1/models/org/a", "/v1/models/org%2Fa"):
            assert (await http.get(path)).json()["id"] == "org/a"


async def test_a_pooled_client_uses_both_kinds_of_paths_in_turn() -> None:
    """Relayed answers keep the connection, the others close it; a client that pools notices neither."""
    async with (
        Fleet(1, speed=50) as fleet,
        running(config_for(fleet.urls)) as harness,
        client(harness.url, limits=httpx.Limits(max_connections=1)) as http,
    ):
        for _ in range(3):
            chat, models = await http.post(CHAT, json=HELLO), await http.get("/v1/models")
            assert (chat.status_code, models.status_code) == (200, 200)
            assert "connection" not in chat.headers
            assert models.headers["connection"] == "close"


async def test_a_cold_path_may_follow_a_relayed_one_in_one_write() -> None:
    """Pipelined: both are answered, in order, then the connection ends."""
    body = msgspec.json.encode(HELLO)
    head = b"POST %b HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (
        CHAT.encode(),
        len(body),
    )
    async with (
        Fleet(1, speed=50) as fleet,
        running(config_for(fleet.urls)) as harness,
        await anyio.connect_tcp("127.0.0.1", harness.port) as stream,
    ):
        await stream.send(head + body + b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n")
        got = b"".join([piece async for piece in stream])
        assert got.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert got.index(b"chat.completion") < got.index(b'{"status":"alive"}')


async def test_not_ready_before_a_replica_has_answered() -> None:
    """503 with Retry-After; the process itself is alive."""
    async with running(config_for([NOBODY]), wait_ready=False) as harness, client(harness.url) as http:
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["error"]["code"]) == (503, "unavailable")
        assert int(ready.headers["retry-after"]) >= 1
        assert (await http.get("/healthz")).status_code == 200


async def test_draining_refuses_what_is_new() -> None:
    """`/readyz` and new requests say 503 with the same code; liveness stays."""
    async with Fleet(1) as fleet, running(config_for(fleet.urls)) as harness, client(harness.url) as http:
        assert (await http.get("/readyz")).json()["status"] == "ready"
        harness.gateway.desk.draining = True
        for refused in (await http.get("/readyz"), await http.post(CHAT, json=HELLO)):
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert int(refused.headers["retry-after"]) >= 1
        assert (await http.get("/healthz")).status_code == 200
        assert fleet.replica(0).requests_seen == 0


async def test_metrics_can_be_parsed_and_say_what_happened() -> None:
    """Prometheus' own parser reads them; a name that a client made up is no label, a whole answer has no TTFT."""
    async with Fleet(2, speed=50) as fleet, running(config_for(fleet.urls)) as harness:
        stream = HELLO | {"stream": True}
        answers = await settled_chats(harness, [stream, HELLO, HELLO | {"model": "made-up"}])
        assert [answer.status_code for answer in answers] == [200, 200, 404]
        async with client(harness.admin_url) as http:
            response = await http.get("/metrics")
    assert "made-up" not in response.text
    samples = [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    ]

    def total(name: str, **labels: str) -> float:
        return sum(value for n, ls, value in samples if n == name and labels.items() <= ls.items())

    assert total("gateway_requests_total", code="200", model="emulated") == 2
    assert total("gateway_requests_total", code="404", model="") == 1
    assert total("gateway_time_to_first_token_seconds_count") == 1
    assert total("gateway_request_duration_seconds_count", model="emulated") == 2
    assert total("gateway_tokens_total", kind="completion") == 10
    assert total("gateway_in_flight_requests") == 0
    assert total("gateway_replica_state", state="ready") == 2
    assert total("gateway_replica_state") == 2


async def test_the_dashboards_figures_are_those_of_the_requests() -> None:
    """A replica that never answered is unknown; the others add up."""
    async with Fleet(1, speed=50) as fleet, running(config_for([*fleet.urls, NOBODY]), wait_ready=False) as harness:
        with anyio.fail_after(10):
            while harness.gateway.board.current.replicas[0].models is None:
                await anyio.sleep(0.005)
        await settled_chats(harness, [HELLO | {"stream": True}])
        async with client(harness.admin_url) as http:
            state = (await http.get("/dashboard/state.json")).json()
    good, silent = state["replicas"]
    assert (state["requests"], state["failures"], state["in_flight"]) == (1, 0, 0)
    assert (good["name"], good["state"], good["models"], good["requests"]) == ("r0", "ready", ["emulated"], 1)
    assert good["ttft_p50_s"] == state["ttft_p50_s"] > 0
    assert (silent["name"], silent["models"], silent["ttft_p50_s"]) == ("r1", None, None)
    assert silent["state"] in ("suspect", "ejected")


async def test_secrets_stay_inside() -> None:
    """The replica gets its own key and nothing of the client's; no answer, log line or repr holds either."""
    secrets = ("t0ken-of-admin", "key-of-replica", "key-of-client")
    async with Fleet(1, speed=50, api_key="key-of-replica") as fleet:
        config = msgspec.structs.replace(
            config_for(fleet.urls),
            replicas=(ReplicaConfig(url=fleet.urls[0], name="r0", api_key="key-of-replica"),),
            admin=Admin(port=0, token="t0ken-of-admin"),
        )
        async with running(config) as harness:
            async with client(harness.url, headers={"authorization": "Bearer key-of-client"}) as http:
                answer = await http.post(CHAT, json=HELLO)
            records = await harness.settled(1)
            async with client(harness.admin_url) as http:
                assert (await http.get("/admin/config")).status_code == 401
                http.headers["authorization"] = "Bearer t0ken-of-admin"
                paths = ("/admin/config", "/admin/replicas", "/dashboard/state.json", "/metrics", "/dashboard")
                told = [await http.get(path) for path in paths]
            sent = fleet.replica(0).last
            shown = [answer.text, repr(records), repr(harness.gateway.board.current), repr(config)]
    assert answer.status_code == 200
    assert sent.header("authorization") == "Bearer key-of-replica"
    assert [response.status_code for response in told] == [200] * len(paths)
    shown += [response.text for response in told]
    assert [secret for secret in secrets for text in shown if secret in text] == []
    assert told[0].json()["replicas"][0]["api_key"] == told[0].json()["admin"]["token"] == "***"


async def test_ports_and_urls_are_those_bound() -> None:
    """Port 0 is any free one, and the URLs name it; a taken one is an OSError that says which."""
    config = Config(**{name: getattr(config_for([NOBODY]), name) for name in ("server", "admin", "replicas")})
    async with running(config, wait_ready=False) as harness:
        assert harness.url == f"http://127.0.0.1:{harness.port}"
        taken = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, port=harness.port))
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{harness.port}: "):
            Running(taken)
        taken = msgspec.structs.replace(
            config, admin=msgspec.structs.replace(config.admin, port=harness.gateway.admin.port)
        )
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{harness.gateway.admin.port}: "):
            Running(taken)
        gc.collect()  # a port that was left open would be a ResourceWarning
