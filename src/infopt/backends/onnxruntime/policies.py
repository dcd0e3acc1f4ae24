"""How ONNX Runtime wants a precision written into the graph: its policies, as data."""

from __future__ import annotations

from collections.abc import Mapping

from infopt.backends.onnxruntime import choices
from infopt.errors import UsageError
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.pipeline import Calibrate, Step
from infopt.target import Target

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


def _static() -> tuple[Step, ...]:
    return (
        # Products and their biases in the form in which they will run: what is observed of a
        # value and what is quantized are the same then.
        *choices.linear(_CPU),
        Calibrate(),
        # Its integer convolutions and sums return integers; its products return numbers.
        QuantizeStatic(operators="Conv+Gemm+MatMul+Add", outputs="Conv+Add"),
    )


_POLICIES: Mapping[tuple[str, str], tuple[Step, ...]] = {
    (_CPU, "fp32"): (),
    (_CUDA, "fp32"): (),
    (_CPU, "int8"): _static(),
}

_REFUSED: Mapping[tuple[str, str], str] = {
    (_CUDA, "int8"): (
        "ONNX Runtime has no integer convolutions or products for CUDA and would run this model "
        "slower than at fp32; choose fp32 there, or the target onnxruntime:cpu"
    ),
}


def precision(target: Target, name: str) -> tuple[Step, ...]:
    """The steps that write precision ``name``.

    Raises:
        UsageError: The target does not run it, or only slower.
    """
    found = _POLICIES.get((target.provider, name))
    if found is None:
        why = _REFUSED.get((target.provider, name), f"{target.name} does not run {name}")
        raise UsageError(f"precision {name} is not for {target.name}: {why}")
    return found
