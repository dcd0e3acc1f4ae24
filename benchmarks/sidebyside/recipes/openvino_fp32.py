"""OpenVINO at fp32, for the least latency.

https://docs.openvino.ai/2026/openvino-workflow/running-inference.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino as ov

from benchmarks.sidebyside.job import Feeds, Job, Run


def optimize(job: Job) -> None:
    ov.save_model(ov.convert_model(job.model), job.directory / "model.xml", compress_to_fp16=False)


def load(job: Job) -> Run:
    return compiled(job.directory / "model.xml", job.threads, "f32")


def compiled(file: Path, threads: int, precision: str) -> Run:
    """The model as a function, computed in this precision."""
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    model = ov.Core().compile_model(file, "CPU", options)
    request = model.create_infer_request()

    def run(feeds: Feeds) -> list[Any]:
        found = request.infer(feeds, share_inputs=True)
        return [found[output] for output in model.outputs]

    return run
