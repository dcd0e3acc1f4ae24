"""onnxslim with its defaults.

https://github.com/inisis/OnnxSlim
"""

from __future__ import annotations

import onnxslim

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.ort import optimized as load

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    onnxslim.slim(str(job.model), str(job.directory / "model.onnx"))
