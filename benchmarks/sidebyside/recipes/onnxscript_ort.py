"""onnxscript's optimizer and its fusions for ONNX Runtime.

https://microsoft.github.io/onnxscript/tutorial/optimizer/index.html
"""

from __future__ import annotations

import onnx_ir
from onnxscript import optimizer
from onnxscript.rewriter.ort_fusions import optimize_for_ort

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.ort import optimized as load

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    model = onnx_ir.load(job.model)
    optimizer.optimize(model)
    fused = optimize_for_ort(model)
    onnx_ir.save(fused[0] if isinstance(fused, tuple) else fused, job.directory / "model.onnx")
