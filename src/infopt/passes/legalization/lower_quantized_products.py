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
class Product:
    """Integers that are multiplied, and scaled."""

    x: Quantized
    weights: Quantized
    nodes: tuple[ir.Node, ...] = ()
    """What reads the integers, the scale and the zero point of ``x``, if that is written out."""

    @property
    def source(self) -> ir.Value | None:
        """What a DynamicQuantizeLinear makes ``x`` of, if it does so for this product alone."""
        x, maker = self.x, produced_by(self.x.integers, "DynamicQuantizeLinear")
        if maker is None or list(maker.outputs) != [x.integers, x.scale, x.zero_point]:
            return None
        if any(node.graph is not maker.graph for node in self.nodes):
            return None
        shared = any(is_read_outside(output, self.nodes) for output in maker.outputs)
        return None if shared else maker.inputs[0]


@dataclasses.dataclass(frozen=True)
class LowerQuantizedProducts(Rewrite):
    """``MatMul(DequantizeLinear(x), DequantizeLinear(W)) + b`` becomes ``MatMulIntegerToFloat``.

    So does ``Cast(MatMulInteger(x, W)) * (x_scale * W_scale) + b``; where a DynamicQuantizeLinear
    makes ``x`` for this product alone, both become one ``DynamicQuantizeMatMul``. These operators
    of ONNX Runtime's own multiply the integers and scale the sums, and add the bias while they do
    so. The product of the scales is the same, its rounding is not.
    """

    name: ClassVar[str] = "lower-quantized-products"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul", "Mul"})
    tolerance: ClassVar[float] = 1e-5

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        found = _read(node) if node.op_type == "MatMul" else _scaled(node)
        if not isinstance(found, Product):
            return found
        x, weights, source = found.x, found.weights, found.source
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
            inputs: tuple[ir.Value | None, ...]
            if source is not None:
                operator = "DynamicQuantizeMatMul"
                inputs = source, weights.integers, weights.scale, weights.zero_point
            else:
                operator = "MatMulIntegerToFloat"
                inputs = x.integers, weights.integers, x.scale, weights.scale
                inputs = *inputs, x.zero_point, weights.zero_point
            return to.op(operator, *inputs, bias, domain="com.microsoft", like=last)

        return Found(RULE, build, (last,))


def _read(node: ir.Node) -> Product | None:
    """A MatMul of dequantized integers."""
    x, weights = (_quantized(value) for value in node.inputs[:2])
    return None if x is None or weights is None else Product(x, weights)


def _quantized(value: ir.Value | None) -> Quantized | None:
    node = produced_by(value, "DequantizeLinear")
    if node is None or queries.attribute(node, "block_size", 0):
        return None
    integers, scale = node.inputs[0], node.inputs[1]
    if integers is None or scale is None or integers.dtype not in _INTEGERS:
        return None
    axis = queries.attribute(node, "axis", 1)
    return Quantized(integers, scale, input_at(node, 2), axis)


def _scaled(mul: ir.Node) -> Product | Miss | None:
    """A MatMulInteger whose sums ``mul`` scales, by two scales multiplied."""
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
                inputs = Quantized(x, one, points[0], 0)
                return Product(inputs, Quantized(weights, other, points[1], 1), (product, scales))
        return Miss(RULE, "the scales of its weights are computed at run time")
    return None


def _returns_integers(value: ir.Value) -> bool:
    """Whether ``value`` is quantized, and read in no other way."""
    uses = list(value.uses())
    return bool(uses) and all(queries.is_standard(use.node, "QuantizeLinear") for use in uses)
