"""ONNX Runtime's transformer optimizer, then its dynamic quantizer to int8.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.ort import optimized as load
from benchmarks.sidebyside.recipes.ort_transformers import fuse

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    with tempfile.TemporaryDirectory() as room:
        fused = Path(room) / "fused.onnx"
        fuse(job, fused)
        quantize_dynamic(str(fused), str(job.directory / "model.onnx"), weight_type=QuantType.QInt8)
