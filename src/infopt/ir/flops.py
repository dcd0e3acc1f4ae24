"""How many operations a node performs, from the shapes of its inputs and outputs alone.

The convention: a multiply-accumulate (MAC) is one multiplication and one addition and counts
as two floating-point operations (FLOPs). An element-wise operator costs one FLOP per element,
transcendental functions included; composed operators (Softmax, Gelu, LayerNormalization)
cost what their definition spells out. Moving data costs nothing. Integer arithmetic of
quantized operators is counted like that of the float ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import onnx_ir as ir

from infopt.ir import queries


@dataclasses.dataclass(frozen=True)
class Work:
    """The arithmetic of one node."""

    macs: int = 0
    """Multiply-accumulates of matrix products and convolutions."""
    other: int = 0
    """Floating-point operations outside of those."""

    @property
    def flops(self) -> int:
        """All floating-point operations, two for each MAC."""
        return 2 * self.macs + self.other


class _Unknown(Exception):
    """A shape that the count needs is not known."""


def work(node: ir.Node) -> Work | None:
    """The arithmetic of ``node``, subgraphs not included.

    Returns:
        ``None`` where the operator is not known here, or a shape that matters is not static.
    """
    operator = queries.operator_name(node)
    try:
        if operator in _MATRIX:
            return _MATRIX[operator](node)
        if operator in _FREE:
            return Work()
        if operator in _VARIADIC:
            return Work(other=(len(node.inputs) - 1) * _out(node))
        if operator in _PER_OUTPUT:
            return Work(other=_PER_OUTPUT[operator] * _out(node))
        if operator in _PER_INPUT or operator.startswith(("Reduce", "Global")):
            return Work(other=_PER_INPUT.get(operator, 1) * _elements(node, 0))
        if operator in _POOLS:
            window: tuple[int, ...] = queries.attribute(node, "kernel_shape", ())
            return Work(other=math.prod(window) * _out(node))
    except (_Unknown, IndexError):  # a shape that is not known, or of a rank nobody expects
        return None
    return None


def elements(value: ir.Value | None) -> int | None:
    """How many elements ``value`` has, or ``None`` where its shape is not static."""
    shape = queries.static_shape(value)
    return None if shape is None else math.prod(shape)


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    shape = queries.static_shape(value)
    if shape is None:
        raise _Unknown
    return shape


def _input(node: ir.Node, index: int) -> tuple[int, ...]:
    return _shape(node.inputs[index] if index < len(node.inputs) else None)


def _elements(node: ir.Node, index: int) -> int:
    return math.prod(_input(node, index))


def _out(node: ir.Node) -> int:
    return math.prod(_shape(node.outputs[0]))


def _given(node: ir.Node, index: int) -> bool:
    return index < len(node.inputs) and node.inputs[index] is not None


def _conv(weight: int, bias: int) -> Callable[[ir.Node], Work]:
    """Each output element is a dot product over a window of the channels of its group."""

    def rule(node: ir.Node) -> Work:
        out = _out(node)
        return Work(
            macs=out * math.prod(_input(node, weight)[1:]),
            other=out if _given(node, bias) else 0,
        )

    return rule


def _conv_transpose(node: ir.Node) -> Work:
    """Each input element is spread over a window of the output channels of its group."""
    return Work(
        macs=_elements(node, 0) * math.prod(_input(node, 1)[1:]),
        other=_out(node) if _given(node, 2) else 0,
    )


def _matmul(node: ir.Node) -> Work:
    left = _input(node, 0)
    inner = left[-2] if queries.attribute(node, "transA", 0) and len(left) > 1 else left[-1]
    return Work(macs=_out(node) * inner)


def _gemm(node: ir.Node) -> Work:
    return Work(macs=_matmul(node).macs, other=_out(node) if _given(node, 2) else 0)


def _matmul_nbits(node: ir.Node) -> Work:
    return Work(macs=_out(node) * queries.attribute(node, "K", 0))


def _einsum(node: ir.Node) -> Work:
    """One MAC for each combination of the letters; fewer where the runtime is clever."""
    terms = queries.attribute(node, "equation", "").partition("->")[0].replace(" ", "").split(",")
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        if "." in term:
            raise _Unknown
        sizes.update(zip(term, _input(node, index), strict=False))
    return Work(macs=math.prod(sizes.values()) * max(len(terms) - 1, 0))


def _recurrent(node: ir.Node) -> Work:
    """Both weight matrices are applied once for each step of each sequence."""
    sequence = _input(node, 0)
    steps = math.prod(sequence[:2])
    return Work(macs=steps * (_elements(node, 1) + _elements(node, 2)))


def _attention(query: int, key: int, past: int, length_axis: int) -> Callable[[ir.Node], Work]:
    """Scores (queries × keys), their softmax, and the weighted values."""

    def rule(node: ir.Node) -> Work:
        q, k = _input(node, query), _input(node, key)
        keys = k[2] if len(k) == 4 else k[1]
        if _given(node, past):
            keys += _input(node, past)[length_axis]
        if len(q) == 4:
            scores = math.prod(q[:3]) * keys
        else:
            heads = queries.attribute(node, "q_num_heads", queries.attribute(node, "num_heads", 1))
            scores = q[0] * q[1] * heads * keys
        return Work(macs=(math.prod(q) + _out(node)) * keys, other=_SOFTMAX * scores)

    return rule


def _attention_with_projections(node: ir.Node) -> Work:
    """ONNX Runtime's own Attention: one packed product makes queries, keys and values."""
    x, weight = _input(node, 0), _input(node, 1)
    batch, length, _ = x
    keys = length + (_input(node, 4)[3] if _given(node, 4) else 0)
    hidden = math.prod(_shape(node.outputs[0])[2:])
    heads = queries.attribute(node, "num_heads", 1)
    return Work(
        macs=batch * length * math.prod(weight) + 2 * batch * length * keys * hidden,
        other=batch * length * weight[1] + _SOFTMAX * batch * heads * length * keys,
    )


def _words(text: str) -> list[str]:
    return text.split()


_SOFTMAX = 5
"""Maximum, subtraction, exponential, sum, division."""

_MATRIX: dict[str, Callable[[ir.Node], Work]] = {
    "Conv": _conv(weight=1, bias=2),
    "com.microsoft::FusedConv": _conv(weight=1, bias=2),
    "ConvInteger": _conv(weight=1, bias=99),
    "QLinearConv": _conv(weight=3, bias=8),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "com.microsoft::FusedMatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "com.microsoft::MatMulNBits": _matmul_nbits,
    "Gemm": _gemm,
    "com.microsoft::FusedGemm": _gemm,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Attention": _attention(query=0, key=1, past=4, length_axis=2),
    "com.microsoft::Attention": _attention_with_projections,
    "com.microsoft::MultiHeadAttention": _attention(query=0, key=1, past=6, length_axis=2),
}

_PER_OUTPUT = dict.fromkeys(
    _words("""Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr
    BitwiseXor Ceil Clip Cos Cosh Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN
    LeakyRelu Less LessOrEqual Log Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Resize Round
    Sigmoid Sign Sin Sinh Sqrt Sub Tan Tanh ThresholdedRelu Upsample Xor"""),
    1,
) | {
    "BatchNormalization": 2,  # its four vectors become one scale and one shift
    "com.microsoft::BiasGelu": 6,
    "Celu": 4,
    "DequantizeLinear": 2,
    "Elu": 3,
    "com.microsoft::FastGelu": 8,
    "Gelu": 5,
    "HardSigmoid": 3,
    "HardSwish": 4,
    "Mish": 4,
    "QuantizeLinear": 3,
    "com.microsoft::QuickGelu": 3,
    "RotaryEmbedding": 3,
    "Selu": 4,
    "Softplus": 3,
    "Softsign": 3,
    "Swish": 2,
}

_PER_INPUT = {
    "ArgMax": 1,
    "ArgMin": 1,
    "CumSum": 1,
    "DynamicQuantizeLinear": 5,
    "GroupNormalization": 7,
    "InstanceNormalization": 7,
    "LRN": 6,
    "LayerNormalization": 7,  # mean, difference, square, sum, division, scale, shift
    "LogSoftmax": _SOFTMAX,
    "LpNormalization": 3,
    "MeanVarianceNormalization": 5,
    "RMSNormalization": 4,
    "SimplifiedLayerNormalization": 4,
    "com.microsoft::SkipLayerNormalization": 8,
    "com.microsoft::SkipSimplifiedLayerNormalization": 5,
    "Softmax": _SOFTMAX,
}

_VARIADIC = {"Max", "Mean", "Min", "Sum"}
_POOLS = {"AveragePool", "LpPool", "MaxPool"}

_FREE = _words("""
    Cast CastLike CenterCropPad Compress Concat ConcatFromSequence Constant ConstantOfShape
    DepthToSpace Dropout Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop
    NonZero OneHot Optional OptionalGetElement OptionalHasElement Pad Range Reshape
    ReverseSequence Scan Scatter ScatterElements ScatterND SequenceAt SequenceConstruct
    SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape Size Slice SpaceToDepth
    Split SplitToSequence Squeeze Tile TopK Transpose Trilu Unique Unsqueeze Where
""")
"""Operators that move, compare or select data; the bodies of If, Loop and Scan count apart."""
