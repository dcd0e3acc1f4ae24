"""NNCF's quantization to int8 after training, in OpenVINO.

Transformers are quantized as such, which includes SmoothQuant.

https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training/basic-quantization-flow.html
"""

from __future__ import annotations

import nncf
import openvino as ov

from benchmarks.sidebyside.job import Job, Run
from benchmarks.sidebyside.recipes.openvino_fp32 import compiled

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    samples = list(job.samples())
    quantized = nncf.quantize(
        ov.convert_model(job.model),
        nncf.Dataset(samples),
        subset_size=len(samples),
        model_type=nncf.ModelType.TRANSFORMER if job.kind else None,
    )
    ov.save_model(quantized, job.directory / "model.xml", compress_to_fp16=False)


def load(job: Job) -> Run:
    return compiled(job.directory / "model.xml", job.threads, "f32")
