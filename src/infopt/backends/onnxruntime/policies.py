"""How ONNX Runtime wants a precision written into the graph: its policies, as data."""

from __future__ import annotations

from collections.abc import Mapping

from infopt.backends.onnxruntime import choices
from infopt.errors import UsageError
from infopt.passes.editing import operators
from infopt.passes.legalization.lower_block_products import LowerBlockProducts
from infopt.passes.legalization.lower_gemm import LowerGemm
from infopt.passes.legalization.lower_quantized_products import LowerQuantizedProducts
from infopt.passes.precision.convert_bfloat16 import ConvertBfloat16
from infopt.passes.precision.convert_float16 import ConvertFloat16
from infopt.passes.quantization.correct_bias import CorrectBias
from infopt.passes.quantization.quantize_biases import QuantizeBiases
from infopt.passes.quantization.quantize_dynamic import QuantizeDynamic
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.passes.quantization.quantize_weights import QuantizeWeights
from infopt.passes.quantization.smooth_quant import SmoothQuant
from infopt.passes.quantization.transpose_integers import TransposeIntegers
from infopt.pipeline import Calibrate, Step
from infopt.target import Target

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


def _static() -> tuple[Step, ...]:
    return (
        # Products and their biases in the form in which they will run: what is observed of a
        # value and what is quantized are the same then.
        *choices.linear(_CPU),
        # Channels of a range of their own: in front of products a Mul costs some 5 %, and takes two
        # thirds of the error away …
        Calibrate(),
        SmoothQuant(alpha=0.8, multiply=True),
        # … so that the ranges are others than before.
        Calibrate(),
        # Its integer convolutions and sums return integers; its products return numbers. A pool
        # between them that finds the same scale on both sides takes the integers as they are.
        QuantizeStatic(operators="Conv+Gemm+MatMul+Add", outputs="Conv+Add", through="MaxPool"),
        # While it is still known of which weights the integers were made.
        CorrectBias(),
        # Faster than what it makes itself of MatMul, and the bias is part of it.
        LowerQuantizedProducts(),
    )


_BFLOAT16 = operators(
    """
    Abs Add Attention AveragePool Cast Compress Concat ConstantOfShape Conv Div Dropout Erf
    Exp Expand Flatten Gather GatherElements GatherND Gelu Gemm HardSigmoid HardSwish
    Identity IsInf IsNaN LayerNormalization MatMul Max Min Mod Mul Neg Pow RMSNormalization
    ReduceSum Relu Reshape ReverseSequence RotaryEmbedding ScatterElements ScatterND Shape
    Sigmoid Sign Size Slice Softmax Split Sqrt Squeeze Sub Sum Swish Tanh TensorScatter Tile
    Transpose Trilu Unsqueeze Where
    """
)
"""Operators with a bfloat16 kernel for CUDA, by ONNX Runtime's own table of kernels (read, not
run), and Swish, which is taken apart into two of them. Any other would go to the processor,
which has next to none: the model would not load."""


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
    # Products, biases and inputs as they will run, so that products of one input share its range.
    (_CPU, "int8-dynamic"): (*choices.linear(_CPU), QuantizeDynamic()),
    # What was trained stays: integers are found where they are multiplied, and biases join them.
    (_CPU, "int8-trained"): (TransposeIntegers(), QuantizeBiases(), LowerQuantizedProducts()),
    # Calibration shows where numbers are out of range.
    (_CUDA, "fp16"): (Calibrate(), ConvertFloat16()),
    (_CUDA, "bf16"): (Calibrate(), ConvertBfloat16(operators="+".join(sorted(_BFLOAT16)))),
    (_CPU, "int4"): _weights(_CPU, *_WITHOUT_DATA),
    (_CUDA, "int4"): _weights(_CUDA, *_WITHOUT_DATA),
}

_WITH: Mapping[tuple[str, str], tuple[Step, ...]] = {
    (_CPU, "int4"): _weights(_CPU, *_WITH_DATA),
    (_CUDA, "int4"): _weights(_CUDA, *_WITH_DATA),
}
"""What else they are where there is data, for those precisions that can do without."""

_INSTEAD = "choose fp32 or int8 there, or the target onnxruntime:cuda"

_REFUSED: Mapping[tuple[str, str], str] = {
    # A BERT of 4 layers, batch 1 and 8, beside the same at fp32, in one run (ONNX Runtime 1.31.1).
    (_CPU, "fp16"): (
        "ONNX Runtime has next to no float16 kernels for processors; it casts such a model back to "
        "float32 when it loads it, and a small BERT ran 3 to 9 % slower so than at fp32; "
        f"{_INSTEAD}"
    ),
    (_CPU, "bf16"): (
        "ONNX Runtime has no bfloat16 kernels for processors, save for moving numbers about, and "
        f"does not load such a model; {_INSTEAD}"
    ),
    (_CPU, "fp8"): (
        "ONNX Runtime multiplies no floating-point numbers of 8 bits; choose int8 there, or a "
        "target of TensorRT"
    ),
    (_CUDA, "fp8"): (
        "ONNX Runtime multiplies no floating-point numbers of 8 bits; choose fp16 there, or a "
        "target of TensorRT"
    ),
    (_CUDA, "int8"): (
        "ONNX Runtime has no integer convolutions or products for CUDA and would run this model "
        "slower than at fp32; choose fp32 there, or the target onnxruntime:cpu"
    ),
    (_CUDA, "int8-trained"): (
        "ONNX Runtime has no integer convolutions or products for CUDA and would run this model "
        "slower than at fp32; choose the target onnxruntime:cpu, or train without quantization"
    ),
    (_CUDA, "int8-dynamic"): (
        "ONNX Runtime has no products for CUDA of the uint8 that DynamicQuantizeLinear gives; they "
        "would run on the processor. Choose fp16, bf16 or int4 there, or the target onnxruntime:cpu"
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
