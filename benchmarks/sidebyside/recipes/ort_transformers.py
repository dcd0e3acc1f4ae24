"""ONNX Runtime's transformer optimizer, told the kind of the model; "bert" is its default.

https://onnxruntime.ai/docs/performance/transformers-optimization.html
"""

from __future__ import annotations

from pathlib import Path

from onnxruntime.transformers.optimizer import optimize_model

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.ort import optimized as load

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    fuse(job, job.directory / "model.onnx")


def fuse(job: Job, target: Path) -> None:
    """Write the optimized model."""
    fused = optimize_model(str(job.model), model_type=job.kind or "bert", use_gpu=False)
    fused.save_model_to_file(str(target))
