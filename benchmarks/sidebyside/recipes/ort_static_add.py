"""ONNX Runtime's static quantizer to int8 as before, on the sums of transformers, too.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.ort import optimized as load
from benchmarks.sidebyside.recipes.ort_static import quantize

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    if not job.kind:
        raise ValueError("no transformer: ORT static int8 has quantized its sums already")
    quantize(job, ("MatMul", "Gemm", "Add"))
