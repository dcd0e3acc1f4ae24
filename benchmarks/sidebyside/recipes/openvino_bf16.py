"""OpenVINO, computing in bf16.

https://docs.openvino.ai/2026/openvino-workflow/running-inference/optimize-inference/precision-control.html
"""

from __future__ import annotations

from benchmarks.sidebyside.job import Job, Run
from benchmarks.sidebyside.recipes.openvino_fp32 import compiled, optimize

__all__ = ["load", "optimize"]


def load(job: Job) -> Run:
    return compiled(job.directory / "model.xml", job.threads, "bf16")
