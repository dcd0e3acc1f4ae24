"""optimum-onnx's graph optimizations at level O2.

https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/optimization
"""

from __future__ import annotations

from optimum.onnxruntime import AutoOptimizationConfig, OptimizationConfig, ORTOptimizer

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.ort import optimized as load

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    fuse(job, AutoOptimizationConfig.O2())


def fuse(job: Job, level: OptimizationConfig) -> None:
    """Write the model optimized at this level."""
    optimizer = ORTOptimizer.from_pretrained(job.huggingface)
    optimizer.optimize(level, save_dir=job.directory, file_suffix="")
