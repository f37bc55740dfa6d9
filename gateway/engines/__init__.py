"""Dialects of engines: what differs between vLLM, SGLang and the others. Pure."""

from gateway.engines.base import Dialect
from gateway.engines.generic import Generic
from gateway.engines.sglang import Sglang
from gateway.engines.vllm import Vllm

DIALECTS: dict[str, Dialect] = {"vllm": Vllm(), "sglang": Sglang(), "openai": Generic()}
"""The word of `replicas[].engine` -> its dialect. The only list."""
