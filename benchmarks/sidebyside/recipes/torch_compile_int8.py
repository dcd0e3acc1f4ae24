"""torchao's int8 for linear layers, activations quantized as they come, in ``torch.compile``.

https://docs.pytorch.org/ao/stable/api_reference/generated/torchao.quantization.Int8DynamicActivationInt8WeightConfig.html
"""

from __future__ import annotations

from typing import Any

from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

from benchmarks.sidebyside.job import Job, Run
from benchmarks.sidebyside.recipes.torch_compile import compile_ahead, compiled
from benchmarks.sidebyside.recipes.torch_eager import module, prepare

__all__ = ["load", "optimize", "prepare"]


def _quantized(job: Job) -> Any:
    model = module(job)
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return model


def optimize(job: Job) -> int:
    return compile_ahead(_quantized(job), job)


def load(job: Job) -> Run:
    return compiled(_quantized(job), job)
