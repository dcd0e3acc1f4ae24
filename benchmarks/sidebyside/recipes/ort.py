"""ONNX Runtime as it is: a session of the original file, which it optimizes as it loads it.

https://onnxruntime.ai/docs/api/python/api_summary.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort

from benchmarks.sidebyside.job import Job, Run


def optimize(job: Job) -> int:
    return job.model.stat().st_size


def load(job: Job) -> Run:
    return session(job.model, job.threads)


def session(file: Path, threads: int, **options: Any) -> Run:
    """A session of a file, with options of ``SessionOptions``."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = threads
    for name, value in options.items():
        setattr(settings, name, value)
    opened = ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    return lambda feeds: list(opened.run(None, feeds))


def optimized(job: Job) -> Run:
    """A session of the file that a recipe wrote: what most others return as ``load``."""
    return session(job.directory / "model.onnx", job.threads)
