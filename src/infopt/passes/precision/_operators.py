"""What operators need of their numbers: which stay as they are, and how much they sum up."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.editing import RANDOM, operators
from infopt.passes.matching import input_at, size

QUANTIZED = operators(
    """
    ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul
    QuantizeLinear
    """
)

STAYS = {
    **dict.fromkeys(("Sin", "Cos", "Tan"), "an angle needs all digits of float32"),
    **dict.fromkeys(
        ("AffineGrid", "DeformConv", "GridSample", "MaxRoiPool", "RoiAlign"),
        "it works with coordinates, which need all digits of float32",
    ),
    **dict.fromkeys(("CumProd", "CumSum", "Range"), "a running sum needs all digits of float32"),
    **dict.fromkeys(RANDOM, "it draws its numbers in float32, and so a seed gives the same ones"),
    **dict.fromkeys(
        ("BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT"),
        "a signal's spectrum needs all digits of float32",
    ),
    **dict.fromkeys(("CastLike", "EyeLike"), "the type of its result depends on its inputs'"),
    **dict.fromkeys(QUANTIZED, "it belongs to quantization"),
}
"""Standard operators that stay float32, and why."""

PLACES = {"Resize": (1, 2)}
"""Inputs that stay float32 where the operator does not: regions and scales."""

INSIDE = {
    "Attention": "softmax_precision",
    "GroupNormalization": "stash_type",
    "LayerNormalization": "stash_type",
    "RMSNormalization": "stash_type",
}
"""Operators that compute in float32 inside where this attribute says so."""

TYPED = {"Cast": "to", "ConstantOfShape": "value"}
"""Operators whose attribute decides the type of their result."""

MOVING = operators(
    "Concat Expand Flatten Identity Reshape Slice Split Squeeze Tile Transpose Unsqueeze"
)
"""Operators that move numbers: as well before a cast as behind it."""

_REDUCTIONS = operators(
    """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceProd ReduceSum ReduceSumSquare
    """
)
_OVER_SPACE = operators("GlobalAveragePool GlobalLpPool InstanceNormalization")
_WINDOWS = operators("AveragePool LpPool")
_ALONG_AXIS = {"LogSoftmax": -1, "LpNormalization": -1, "Softmax": -1}
UNKNOWN = -1


def terms(node: ir.Node) -> int:
    """How many numbers ``node`` adds to each other; 0 if none, ``UNKNOWN`` if that is unknown.

    Products of matrices and convolutions are not meant: runtimes add up theirs in float32.
    """
    if node.domain != "":
        return 0
    source = input_at(node, 0)
    count = None if source is None or source.shape is None else len(source.shape)
    axes: Iterable[int]
    if node.op_type in _REDUCTIONS:
        found = _axes(node)
        if found is None or (count is None and not found):
            return UNKNOWN
        if not found and queries.attribute(node, "noop_with_empty_axes", 0):
            return 0
        axes = found or range(count or 0)
    elif node.op_type in _ALONG_AXIS:
        axes = (queries.attribute(node, "axis", _ALONG_AXIS[node.op_type]),)
    elif node.op_type in _OVER_SPACE:
        axes = range(2, count or 3)
    elif node.op_type == "MeanVarianceNormalization":
        axes = queries.attribute(node, "axes", (0, 2, 3))
    elif node.op_type in _WINDOWS:
        return math.prod(queries.attribute(node, "kernel_shape", ()))
    else:
        return 0
    sizes = [size(source, axis) for axis in axes]
    return UNKNOWN if None in sizes else math.prod(length or 0 for length in sizes)


def _axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that a Reduce operator names: none for all; ``None`` if they are not constant."""
    given = input_at(node, 1)
    if given is None:
        return tuple(queries.attribute(node, "axes", ()))
    array = queries.constant(given)
    return None if array is None else tuple(int(axis) for axis in array.ravel())


def multiplies_matrix(node: ir.Node) -> bool:
    """Whether ``node`` is a layer of a network, and no arithmetic of sizes, positions or angles."""
    if not queries.is_standard(node, "MatMul"):
        return queries.is_standard(
            node, "Attention", "Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "RNN"
        )
    return any(
        queries.constant_tensor(value) is not None
        and all((size(value, axis) or 2) > 1 for axis in (-1, -2))
        for value in node.inputs
    )
