"""A logits processor for the replicas: a step takes as long as the slowest request in its batch wants it to.

The tiny model makes a thousand tokens a second, so that a stream may be over before a test has done anything to it,
and its engine is at times seconds ahead of what its server tells. A request asks for the pace of a large model with
`vllm_xargs: {"step_s": 0.02}` in its body. vLLM imports this by name, with this folder on its path.
"""

import time

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates


class SlowSteps(LogitsProcessor):
    """Leaves the logits as they are."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._wanted: dict[int, float] = {}
        """Seconds that a step should last, by place in the batch."""

    def is_argmax_invariant(self) -> bool:
        return False  # or vLLM would leave it out of greedy sampling

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._wanted, batch_update, lambda params, _prompt, _output: _step_s(params))

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        time.sleep(max(self._wanted.values(), default=0.0))
        return logits


def _step_s(params: SamplingParams) -> float | None:
    return (params.extra_args or {}).get("step_s")
