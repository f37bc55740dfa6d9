"""A replica's /metrics, with vLLM's names, labels and buckets. Source: vLLM 0.32 on the wire."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.emulator.engine import EngineModel, EngineParams

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_TTFT_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
_ITL_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_REASONS = ("stop", "length", "abort", "error", "repetition")
_LABELS = ("engine", "model_name")


class Metrics:
    """The series of one replica in a registry of its own. Times are in the engine's seconds."""

    def __init__(self, params: EngineParams, model: str) -> None:
        self._registry = CollectorRegistry()
        labels = {"engine": "0", "model_name": model}

        def counter(name: str, help_text: str) -> Counter:
            return Counter(f"vllm:{name}", help_text, _LABELS, registry=self._registry).labels(**labels)

        def gauge(name: str, help_text: str) -> Gauge:
            return Gauge(f"vllm:{name}", help_text, _LABELS, registry=self._registry).labels(**labels)

        def histogram(name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
            whole = Histogram(f"vllm:{name}", help_text, _LABELS, registry=self._registry, buckets=buckets)
            return whole.labels(**labels)

        self._running = gauge("num_requests_running", "Number of requests in model execution batches.")
        self._waiting = gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        self._kv_usage = gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        self._queries = counter("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.")
        self._hits = counter("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.")
        self._preemptions = counter("num_preemptions", "Cumulative number of preemption from the engine.")
        self._prompt = counter("prompt_tokens", "Number of prefill tokens processed.")
        self._generation = counter("generation_tokens", "Number of generation tokens processed.")
        self._ttft = histogram("time_to_first_token_seconds", "Histogram of time to first token in seconds.", _TTFT_S)
        self._itl = histogram("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", _ITL_S)
        success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            (*_LABELS, "finished_reason"),
            registry=self._registry,
        )
        self._success = {reason: success.labels(**labels, finished_reason=reason) for reason in _REASONS}
        self._taken = {"queries": 0, "hits": 0, "preemptions": 0}
        self._describe_cache(params)

    def first_token(self, prompt_tokens: int, waited_s: float) -> None:
        self._prompt.inc(prompt_tokens)
        self._ttft.observe(waited_s)

    def tokens(self, count: int, gap_s: float | None) -> None:
        """`gap_s`: since the tokens before; None at the first ones."""
        self._generation.inc(count)
        if gap_s is not None:
            self._itl.observe(gap_s)

    def success(self, finish_reason: str) -> None:
        self._success[finish_reason].inc()

    def render(self, engine: EngineModel) -> bytes:
        """The page, with the gauges as they are now."""
        self._running.set(engine.running)
        self._waiting.set(engine.waiting)
        self._kv_usage.set(engine.kv_usage)
        self._catch_up(self._queries, "queries", engine.prefix_queries_tokens)
        self._catch_up(self._hits, "hits", engine.prefix_hits_tokens)
        self._catch_up(self._preemptions, "preemptions", engine.preemptions)
        return generate_latest(self._registry)

    def _catch_up(self, counter: Counter, name: str, total: int) -> None:
        counter.inc(total - self._taken[name])
        self._taken[name] = total

    def _describe_cache(self, params: EngineParams) -> None:
        labels = {
            "block_size": str(params.block_tokens),
            "cache_dtype": "auto",
            "enable_prefix_caching": "True",
            "engine": "0",
            "gpu_memory_utilization": "0.92",
            "kv_cache_size_tokens": str(params.kv_tokens),
            "num_cpu_blocks": "None",
            "num_gpu_blocks": str(params.kv_tokens // params.block_tokens),
            "prefix_caching_hash_algo": "sha256",
        }
        help_text = "Information of the LLMEngine CacheConfig"
        info = Gauge("vllm:cache_config_info", help_text, tuple(labels), registry=self._registry)
        info.labels(**labels).set(1)
