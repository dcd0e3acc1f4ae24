"""How TensorRT wants a precision written into the graph: its policies, as data.

It builds what the graph says: since version 11 every type is that of the graph, and scales stand
in it as QuantizeLinear and DequantizeLinear (docs/design/0009-int8.md names the sources of each
rule).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from infopt.errors import UsageError
from infopt.passes.precision.convert_bfloat16 import ConvertBfloat16
from infopt.passes.precision.convert_float16 import ConvertFloat16
from infopt.passes.quantization.correct_bias import CorrectBias
from infopt.passes.quantization.quantize_float8 import QuantizeFloat8
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.passes.quantization.quantize_weights import QuantizeWeights
from infopt.passes.quantization.smooth_quant import SmoothQuant
from infopt.pipeline import Calibrate, Step
from infopt.target import Target

_OPERATORS = "Conv+Gemm+MatMul+Add"
"""Their inputs are quantized, and nothing behind them: what follows is taken in as it is, and
rounds its result if the next one reads integers. Attention stays one operator, with floats, and so
do normalizations and Softmax."""

_INT8 = QuantizeStatic(
    operators=_OPERATORS,
    activations="int8",
    # Another zero point than 0 is an error.
    symmetric=True,
    # It adds them to the scaled sums.
    biases=False,
    # Below, there are no kernels on tensor cores that pay.
    channels=16,
    vectors=False,
    # A convolution takes in the sum behind it if what is added has been rounded already.
    skips=True,
    # So that nothing is rescaled where it is put together.
    alike="Concat",
)

_FP8 = QuantizeFloat8(
    operators=_OPERATORS,
    channels=16,
    # There are no kernels for groups, nor for filters of more than 32 elements.
    filter=32,
    grouped=False,
    vectors=False,
    skips=True,
    alike="Concat",
)

_INT4 = QuantizeWeights(
    # Blocks of 64 or 128 that fill the inputs, without zero points.
    block=128,
    symmetric=True,
    whole_blocks=True,
)

_FLOAT8_FROM = 89
"""The compute capability (8.9, Ada) from which on there are products of 8-bit floats."""

_POLICIES: Mapping[str, tuple[Step, ...]] = {
    "fp32": (),
    # Calibration shows where numbers are out of range.
    "fp16": (Calibrate(), ConvertFloat16()),
    "bf16": (Calibrate(), ConvertBfloat16()),
    "int8": (
        Calibrate(),
        # Channels of a range of their own, by a Mul where need be, which is computed along with
        # what stands in front of it …
        SmoothQuant(alpha=0.8, multiply=True),
        # … so that the ranges are others than before.
        Calibrate(),
        _INT8,
        # While it is still known of which weights the integers were made.
        CorrectBias(),
    ),
    # The steps of such numbers are as fine as the numbers are small: channels may differ.
    "fp8": (Calibrate(), _FP8, CorrectBias()),
    "int4": (_INT4,),
}

_WITH: Mapping[str, tuple[Step, ...]] = {
    "int4": (Calibrate(), dataclasses.replace(_INT4, algorithm="gptq")),
}
"""What else they are where there is data, for those precisions that can do without."""


def precision(target: Target, name: str, *, data: bool) -> tuple[Step, ...]:
    """The steps that write precision ``name``, with ``data`` or without.

    Raises:
        UsageError: The target does not run it.
    """
    old = [word for word in target.capabilities if int(word.removeprefix("sm")) < _FLOAT8_FROM]
    if name == "fp8" and old:
        raise UsageError(
            f"precision fp8 is not for {target.name}: GPUs multiply 8-bit floats from sm89 on; "
            f"leave out {'+'.join(old)}, or choose int8 or fp16"
        )
    found = _WITH[name] if data and name in _WITH else _POLICIES.get(name)
    if found is None:
        known = ", ".join(_POLICIES)
        raise UsageError(
            f"precision {name} is not for {target.name}: it does not run it; choose one of {known}"
        )
    return found
