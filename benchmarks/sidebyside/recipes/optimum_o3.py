"""optimum-onnx's graph optimizations at level O3, which approximates Gelu.

https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/optimization
"""

from __future__ import annotations

from optimum.onnxruntime import AutoOptimizationConfig

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.optimum_o2 import fuse
from benchmarks.sidebyside.recipes.ort import optimized as load

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    fuse(job, AutoOptimizationConfig.O3())
