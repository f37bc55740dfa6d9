"""What a Prometheus server's answer says."""

import json

import pytest

from gateway.core.vitals import GpuSample, Reason
from gateway.telemetry.gpu_prometheus import QUERY, gpus, parse


def answer(*series: tuple[dict[str, str], list[tuple[float, str]]]) -> bytes:
    result = [{"metric": metric, "values": values} for metric, values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def read(body: bytes, wall: float = 1000.0) -> list[GpuSample]:
    samples = parse(body)
    assert samples is not None
    return gpus(samples, None, wall)


def test_the_newest_samples_of_all_exporters() -> None:
    """Labels that clash with those of the exporter's own pod are renamed; the machine is told by several."""
    dcgm = {"UUID": "GPU-a", "gpu": "0", "exported_pod": "vllm-0", "exported_namespace": "llm", "pod": "exporter"}
    where = {"instance": "10.0.0.1:9400", "Hostname": "node-a", "kubernetes_node": "node-k"}
    body = answer(
        ({"__name__": "DCGM_FI_DEV_GPU_TEMP", **dcgm, **where}, [(980.0, "40"), (995.0, "55")]),
        ({"__name__": "DCGM_FI_DEV_CLOCKS_EVENT_REASONS", **dcgm, **where}, [(995.0, "64")]),
        ({"__name__": "nvidia_smi_temperature_gpu", "uuid": "b", "instance": "[::1]:9835"}, [(999.0, "33")]),
        ({"__name__": "gpu_junction_temperature", "gpu_id": "1", "hostname": "amd1"}, [(999.0, "71")]),
        ({"__name__": "gpu_package_power", "gpu_id": "2"}, []),
    )
    first, second, third = read(body)
    assert (first.temp_c, first.reasons) == (55, {Reason.HW_THERMAL})
    assert first.names == {"a", "llm/vllm-0", "10.0.0.1:0", "node-a:0", "node-k:0"}
    assert (second.temp_c, second.names) == (33, {"b"})
    assert (third.temp_c, third.names) == (71, {"amd1:1"})


def test_samples_of_another_hour() -> None:
    """They carry their own time."""
    body = answer(({"__name__": "DCGM_FI_DEV_GPU_TEMP", "UUID": "GPU-a"}, [(995.0, "55")]))
    assert read(body, wall=4600.0) == []


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b"[]", b'{"data":{"result":[{"metric":{},"value":[1,"2"]}]}}', b"[" * 99999]
)
def test_no_matrix(body: bytes) -> None:
    """None of Prometheus' query API."""
    assert parse(body) is None


def test_the_query_asks_for_all_names() -> None:
    """As raw samples, by one selector."""
    assert QUERY.startswith('{__name__=~"DCGM_FI_DEV_SM_CLOCK|')
    assert QUERY.endswith('"}[60s]')
