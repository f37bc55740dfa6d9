"""EndpointSlices, from a small server that answers as the API does."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.discovery.base import NothingFound, Template
from gateway.discovery.kubernetes import EndpointSlices, in_cluster
from tests.cli.test_check import serving

pytestmark = pytest.mark.anyio
PATH = "/apis/discovery.k8s.io/v1/namespaces/llm/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dvllm"
SELECTOR = "kubernetes.io/service-name=vllm"


def endpoint(address: str, pod: str | None = None, ready: bool | None = True) -> dict[str, Any]:
    target = None if pod is None else {"kind": "Pod", "name": pod, "namespace": "llm"}
    return {"addresses": [address], "conditions": {"ready": ready}, "targetRef": target}


def piece(*endpoints: dict[str, Any], family: str = "IPv4", port: int | None = 8000) -> dict[str, Any]:
    return {"addressType": family, "endpoints": list(endpoints), "ports": [{"name": "http", "port": port}]}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "namespace").write_text("llm\n")
    (tmp_path / "token").write_text("t0ken\n")
    return tmp_path


async def found(account: Path, answer: object, status: int = 200, **more: Any) -> list[Any]:
    text = answer if isinstance(answer, str) else json.dumps({"kind": "EndpointSliceList", "items": answer})
    with serving({PATH: (status, text)}, key="t0ken") as api:
        source = EndpointSlices(api, Template(), selector=SELECTOR, account=account, **more)
        return await source.find()


async def test_each_ready_pod_is_a_replica(account: Path) -> None:
    """With its name and its GPUs; unknown is ready, several slices are one fleet, a pod in two slices is one."""
    slices = [
        piece(endpoint("10.0.0.2", "vllm-1"), endpoint("10.0.0.3", "vllm-2", ready=False)),
        piece(endpoint("10.0.0.1", "vllm-0", ready=None), endpoint("10.0.0.2", "vllm-1"), endpoint("10.0.0.9")),
        piece(endpoint("fd00::2", "vllm-1"), family="IPv6"),
    ]
    replicas = await found(account, slices)
    assert [(r.id, r.url, r.gpus) for r in replicas] == [
        ("10.0.0.9:8000", "http://10.0.0.9:8000", ()),
        ("vllm-0", "http://10.0.0.1:8000", ("llm/vllm-0",)),
        ("vllm-1", "http://10.0.0.2:8000", ("llm/vllm-1",)),
    ]


async def test_a_port_of_ones_own_and_ipv6_alone(account: Path) -> None:
    """The config's port goes before the slice's."""
    (replica,) = await found(account, [piece(endpoint("fd00::2", "p"), family="IPv6", port=None)], port=9000)
    assert replica.url == "http://[fd00::2]:9000"


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        ([], 200, "no pod of"),
        ([piece(endpoint("10.0.0.1", "p", ready=False))], 200, "no pod of"),
        ([piece(endpoint("10.0.0.1", "p"), port=None)], 200, "no pod of"),
        ([{"addressType": "IPv4", "endpoints": None, "ports": None}], 200, "no pod of"),
        ("{}", 200, "no list of EndpointSlices"),
        ("<html>", 200, "no list of EndpointSlices"),
        ("forbidden", 403, "403; may the service account"),
    ],
)
async def test_what_names_nobody_is_a_failure(account: Path, answer: object, status: int, why: str) -> None:
    """It would empty the fleet."""
    with pytest.raises(NothingFound, match=why):
        await found(account, answer, status)


async def test_the_token_is_read_anew(account: Path) -> None:
    """It is changed every hour; without an account, or without an API, the error says so."""
    (account / "token").write_text("old")
    with pytest.raises(NothingFound, match="401"):
        await found(account, [piece(endpoint("10.0.0.1", "p"))])
    (account / "token").unlink()
    with pytest.raises(NothingFound, match="FileNotFoundError"):
        await found(account, [])
    (account / "token").write_text("t")
    with pytest.raises(NothingFound, match="ConnectError"):
        await EndpointSlices("http://127.0.0.1:9", Template(), selector="a=b", account=account).find()


def test_where_the_api_is() -> None:
    """As every pod is told; nowhere outside a cluster."""
    assert in_cluster({}) is None
    there = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert in_cluster(there) == "https://10.96.0.1:6443"
    assert in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1"}) == "https://[fd00::1]:443"
