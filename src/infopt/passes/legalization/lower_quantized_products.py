"""lower-quantized-products: products of integers as one operator of ONNX Runtime's own."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import column_bias, input_at, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "quantized-products"
_INTEGERS = (ir.DataType.UINT8, ir.DataType.INT8)


@dataclasses.dataclass(frozen=True)
class Quantized:
    """What a DequantizeLinear reads."""

    integers: ir.Value
    scale: ir.Value
    zero_point: ir.Value | None
    axis: int
    """The axis of the scales, where there is more than one."""


@dataclasses.dataclass(frozen=True)
class LowerQuantizedProducts(Rewrite):
    """``MatMul(DequantizeLinear(x), DequantizeLinear(W)) + b`` becomes ``MatMulIntegerToFloat``.

    That operator of ONNX Runtime's own multiplies the integers and scales the sums, and adds the
    bias while it does so. The product of the scales is the same, its rounding is not.
    """

    name: ClassVar[str] = "lower-quantized-products"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul"})
    tolerance: ClassVar[float] = 1e-5

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        x, weights = (_quantized(value) for value in node.inputs[:2])
        if x is None or weights is None:
            return None
        shape = queries.static_shape(weights.integers)
        if queries.constant_tensor(weights.integers) is None or shape is None or len(shape) != 2:
            return Miss(RULE, "its weights are no constant matrix")
        if queries.static_shape(x.scale) not in ((), (1,)):
            return Miss(RULE, "its input has more than one scale")
        columns = weights.axis % 2 == 1 and queries.static_shape(weights.scale) == shape[1:]
        if not columns and queries.static_shape(weights.scale) not in ((), (1,)):
            return Miss(RULE, "its weights have scales, but not one for each column")
        if _returns_integers(node.outputs[0]):
            return None  # the runtime makes one operator of all of it
        bias, last = None, node.outputs[0]
        added = column_bias(node, shape[1])
        if added is not None:
            add, index = added
            bias, last = add.inputs[index], add.outputs[0]

        def build(to: Builder) -> ir.Value:
            return to.op(
                "MatMulIntegerToFloat",
                x.integers,
                weights.integers,
                x.scale,
                weights.scale,
                x.zero_point,
                weights.zero_point,
                bias,
                domain="com.microsoft",
                like=last,
            )

        return Found(RULE, build, (last,))


def _quantized(value: ir.Value | None) -> Quantized | None:
    node = produced_by(value, "DequantizeLinear")
    if node is None or queries.attribute(node, "block_size", 0):
        return None
    integers, scale = node.inputs[0], node.inputs[1]
    if integers is None or scale is None or integers.dtype not in _INTEGERS:
        return None
    axis = queries.attribute(node, "axis", 1)
    return Quantized(integers, scale, input_at(node, 2), axis)


def _returns_integers(value: ir.Value) -> bool:
    """Whether ``value`` is quantized, and read in no other way."""
    uses = list(value.uses())
    return bool(uses) and all(queries.is_standard(use.node, "QuantizeLinear") for use in uses)
