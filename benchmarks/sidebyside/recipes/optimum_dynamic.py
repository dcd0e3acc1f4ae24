"""optimum-onnx's dynamic quantization to int8, for processors with AVX-512 VNNI.

https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/quantization
"""

from __future__ import annotations

from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.ort import optimized as load

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer = ORTQuantizer.from_pretrained(job.huggingface)
    quantizer.quantize(config, save_dir=job.directory, file_suffix="")
