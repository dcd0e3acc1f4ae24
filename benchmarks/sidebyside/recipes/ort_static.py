"""ONNX Runtime's static quantizer to int8: QDQ, scales for each channel, after its pre-processing.

Networks of convolutions get its default operators, transformers MatMul and Gemm: with all of them,
masks that are added are quantized together with what they are added to, and nothing is left of it.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.sidebyside.job import Feeds, Job
from benchmarks.sidebyside.recipes.ort import optimized as load

__all__ = ["load", "optimize"]


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """The inputs to calibrate on, one after the other."""

    def __init__(self, samples: Iterable[Feeds]) -> None:
        self.rest = iter(samples)

    def get_next(self) -> Feeds | None:
        return next(self.rest, None)


def optimize(job: Job) -> None:
    quantize(job, ("MatMul", "Gemm") if job.kind else ())


def quantize(job: Job, operators: Sequence[str]) -> None:
    """Quantize these operators, or all that the quantizer knows."""
    with tempfile.TemporaryDirectory() as room:
        prepared = Path(room) / "prepared.onnx"
        quant_pre_process(str(job.model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(job.directory / "model.onnx"),
            Samples(job.samples()),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(operators) or None,
        )
