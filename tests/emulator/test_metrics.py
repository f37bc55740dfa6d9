import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.anyio


async def samples(client: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    """(name, finished_reason) → value of all samples that are of the engine and the model."""
    page = await client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=1.0.0")
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(page.text):
        for sample in family.samples:
            if sample.labels.get("model_name") == "emulated" and sample.labels["engine"] == "0":
                found[sample.name, sample.labels.get("finished_reason", "")] = sample.value
    return found


async def test_counts_of_requests_and_tokens(client: httpx.AsyncClient) -> None:
    """Prefix cache series count tokens; a request counts by its finish reason."""
    for _ in range(2):
        body = {"prompt": list(range(1, 41)), "max_tokens": 5, "ignore_eos": True}
        assert (await client.post("/v1/completions", json=body)).status_code == 200
    found = await samples(client)
    assert found["vllm:prefix_cache_queries_total", ""] == 80
    assert found["vllm:prefix_cache_hits_total", ""] == 32
    assert found["vllm:prompt_tokens_total", ""] == 80
    assert found["vllm:generation_tokens_total", ""] == 10
    assert found["vllm:request_success_total", "length"] == 2
    assert found["vllm:request_success_total", "abort"] == 0
    assert found["vllm:time_to_first_token_seconds_count", ""] == 2
    for gauge in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "num_preemptions_total"):
        assert found[f"vllm:{gauge}", ""] == 0


async def test_cache_config_is_told_in_labels(client: httpx.AsyncClient) -> None:
    """All strings, and no model name, as on the real one."""
    page = (await client.get("/metrics")).text
    line = next(line for line in page.split("\n") if line.startswith("vllm:cache_config_info{"))
    for label in ('block_size="16"', 'num_gpu_blocks="', 'kv_cache_size_tokens="', 'enable_prefix_caching="True"'):
        assert label in line
    assert "model_name" not in line
