"""lower-quantized-products: products of integers as one operator of ONNX Runtime's own."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import (
    column_bias,
    either_way,
    input_at,
    is_read_outside,
    produced_by,
)
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "quantized-products"
_INTEGERS = (ir.DataType.UINT8, ir.DataType.INT8)
_ONE = ((), (1,))
"""The shapes of one scale or zero point for all."""


@dataclasses.dataclass(frozen=True)
class Quantized:
    """What a DequantizeLinear reads, or would read."""

    integers: ir.Value
    scale: ir.Value
    zero_point: ir.Value | None
    axis: int
    """The axis of the scales, where there is more than one."""


@dataclasses.dataclass(frozen=True)
class LowerQuantizedProducts(Rewrite):
    """``MatMul(DequantizeLinear(x), DequantizeLinear(W)) + b`` becomes ``MatMulIntegerToFloat``.

    So does ``Cast(MatMulInteger(x, W)) * (x_scale * W_scale) + b``. That operator of ONNX Runtime's
    own multiplies the integers and scales the sums, and adds the bias while it does so. The product
    of the scales is the same, its rounding is not.
    """

    name: ClassVar[str] = "lower-quantized-products"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul", "Mul"})
    tolerance: ClassVar[float] = 1e-5

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        factors = _read(node) if node.op_type == "MatMul" else _scaled(node)
        if factors is None or isinstance(factors, Miss):
            return factors
        x, weights = factors
        shape = queries.static_shape(weights.integers)
        if queries.constant_tensor(weights.integers) is None or shape is None or len(shape) != 2:
            return Miss(RULE, "its weights are no constant matrix")
        if queries.static_shape(x.scale) not in _ONE:
            return Miss(RULE, "its input has more than one scale")
        columns = weights.axis % 2 == 1 and queries.static_shape(weights.scale) == shape[1:]
        if not columns and queries.static_shape(weights.scale) not in _ONE:
            return Miss(RULE, "its weights have scales, but not one for each column")
        if node.op_type == "MatMul" and _returns_integers(node.outputs[0]):
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


Factors = tuple[Quantized, Quantized]
"""What is multiplied: an input and weights."""


def _read(product: ir.Node) -> Factors | None:
    """The factors of a MatMul of dequantized integers."""
    x, weights = (_quantized(value) for value in product.inputs[:2])
    return None if x is None or weights is None else (x, weights)


def _quantized(value: ir.Value | None) -> Quantized | None:
    node = produced_by(value, "DequantizeLinear")
    if node is None or queries.attribute(node, "block_size", 0):
        return None
    integers, scale = node.inputs[0], node.inputs[1]
    if integers is None or scale is None or integers.dtype not in _INTEGERS:
        return None
    axis = queries.attribute(node, "axis", 1)
    return Quantized(integers, scale, input_at(node, 2), axis)


def _scaled(mul: ir.Node) -> Factors | Miss | None:
    """The factors of a MatMulInteger, if ``mul`` scales its sums by two scales multiplied."""
    for number, scale in either_way(mul):
        cast, scales = produced_by(number, "Cast"), produced_by(scale, "Mul")
        product = None if cast is None else produced_by(cast.inputs[0], "MatMulInteger")
        if cast is None or scales is None or product is None:
            continue
        if queries.attribute(cast, "to", 0) != ir.DataType.FLOAT:
            return Miss(RULE, "its sums become other numbers than float")
        if is_read_outside(number, [mul]) or is_read_outside(product.outputs[0], [cast]):
            return Miss(RULE, "its sums are read without their scales, too")
        points = input_at(product, 2), input_at(product, 3)
        if points[0] is not None and queries.static_shape(points[0]) not in _ONE:
            return Miss(RULE, "its input has more than one zero point")
        x, weights = product.inputs[0], product.inputs[1]
        assert x is not None
        assert weights is not None
        for one, other in either_way(scales):
            if queries.constant_tensor(other) is not None:
                return Quantized(x, one, points[0], 0), Quantized(weights, other, points[1], 1)
        return Miss(RULE, "the scales of its weights are computed at run time")
    return None


def _returns_integers(value: ir.Value) -> bool:
    """Whether ``value`` is quantized, and read in no other way."""
    uses = list(value.uses())
    return bool(uses) and all(queries.is_standard(use.node, "QuantizeLinear") for use in uses)
