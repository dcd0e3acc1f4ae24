"""How ONNX Runtime wants a precision written into the graph: its policies, as data."""

from __future__ import annotations

from collections.abc import Mapping

from infopt.backends.onnxruntime import choices
from infopt.errors import UsageError
from infopt.passes.legalization.lower_block_products import LowerBlockProducts
from infopt.passes.legalization.lower_gemm import LowerGemm
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.passes.quantization.quantize_weights import QuantizeWeights
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


def _weights(provider: str, *quantize: Step) -> tuple[Step, ...]:
    return (
        # Weights are taken apart while they are floats. A Gemm stays one: its integers are written
        # the way round that it has them, and no float copy of a transposed weight is made.
        *(step for step in choices.linear(provider) if not isinstance(step, LowerGemm)),
        *quantize,
        # There is no other kernel in which the GPU multiplies weights of 4 bits; whether the one
        # there adds biases depends on its version.
        *((LowerBlockProducts(biases=False),) if provider == _CUDA else ()),
    )


_WITHOUT_DATA = (QuantizeWeights(algorithm="hqq"),)
_WITH_DATA = (Calibrate(), QuantizeWeights(algorithm="gptq"))

_POLICIES: Mapping[tuple[str, str], tuple[Step, ...]] = {
    (_CPU, "fp32"): (),
    (_CUDA, "fp32"): (),
    (_CPU, "int8"): _static(),
    (_CPU, "int4"): _weights(_CPU, *_WITHOUT_DATA),
    (_CUDA, "int4"): _weights(_CUDA, *_WITHOUT_DATA),
}

_WITH: Mapping[tuple[str, str], tuple[Step, ...]] = {
    (_CPU, "int4"): _weights(_CPU, *_WITH_DATA),
    (_CUDA, "int4"): _weights(_CUDA, *_WITH_DATA),
}
"""What else they are where there is data, for those precisions that can do without."""

_REFUSED: Mapping[tuple[str, str], str] = {
    (_CUDA, "int8"): (
        "ONNX Runtime has no integer convolutions or products for CUDA and would run this model "
        "slower than at fp32; choose fp32 there, or the target onnxruntime:cpu"
    ),
}


def precision(target: Target, name: str, *, data: bool) -> tuple[Step, ...]:
    """The steps that write precision ``name``, with ``data`` or without.

    Raises:
        UsageError: The target does not run it, or only slower.
    """
    key = target.provider, name
    found = _WITH[key] if data and key in _WITH else _POLICIES.get(key)
    if found is None:
        why = _REFUSED.get((target.provider, name), f"{target.name} does not run {name}")
        raise UsageError(f"precision {name} is not for {target.name}: {why}")
    return found
