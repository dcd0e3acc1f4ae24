"""ONNX Runtime with its optimizations off: what all outputs are compared with.

https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
"""

from __future__ import annotations

import onnxruntime as ort

from benchmarks.sidebyside.job import Job, Run
from benchmarks.sidebyside.recipes.ort import optimize, session

__all__ = ["load", "optimize"]


def load(job: Job) -> Run:
    off = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return session(job.model, job.threads, graph_optimization_level=off)
