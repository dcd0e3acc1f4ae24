"""sink-reshapes: what works row by row works on rows, whatever axes they are counted by."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Preserves
from infopt.passes.editing import operators
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.matching import produced_by
from infopt.passes.rewriting import Answer, Builder, Found
from infopt.passes.sizes import Sizes

RULE = "sink-reshape"
UNARY = operators(
    "Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Mish Relu Sigmoid Softplus Swish Tanh"
)
NORMALIZATIONS = operators("LayerNormalization RMSNormalization")
BINARY = operators("Add Mul Sub")


@dataclasses.dataclass(frozen=True)
class SinkReshapes(Fusion):
    """``op(Reshape(rows))`` becomes ``Reshape(op(rows))``.

    ``rows`` is a matrix, the Reshape counts its rows by several axes, and ``op`` treats each row,
    or each element, alike: an activation, a normalization of the last axis, a sum of two such
    values. The Reshape then meets the one before the next Gemm, and both disappear.
    """

    name: ClassVar[str] = "sink-reshapes"
    preserves: ClassVar[Preserves] = Preserves.EXACT
    tolerance: ClassVar[float] = 0.0
    anchors: ClassVar[frozenset[str]] = UNARY | NORMALIZATIONS | BINARY
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        if len(node.outputs) > 1:
            return None
        if node.op_type in BINARY:
            return _binary(node, sizes)
        if node.op_type in NORMALIZATIONS and not _is_last_axis(node, sizes):
            return None
        reshape = _reshape(node.inputs[0], sizes)
        if reshape is None:
            return None
        return _sunk(node, [reshape.inputs[0], *node.inputs[1:]], reshape.inputs[1], sizes)


def _sunk(
    node: ir.Node, inputs: list[ir.Value | None], target: ir.Value | None, sizes: Sizes
) -> Found:
    def build(to: Builder) -> ir.Value:
        attributes = {name: attr.value for name, attr in node.attributes.items()}
        given = [
            value if value is None or sizes.rank(value) != 3 else _rows(to, value, sizes)
            for value in inputs
        ]
        result = to.op(node.op_type, *given, **attributes)
        again = to.op("Reshape", result, target, like=node.outputs[0])
        shape = sizes.shape(node.outputs[0])
        if shape is not None:
            sizes.learn_shape(again, shape)
        return again

    return Found(RULE, build)


def _binary(node: ir.Node, sizes: Sizes) -> Answer:
    """Both sides are such rows; or one is, and the other is a vector, or read as rows anyway."""
    left, right = node.inputs[0], node.inputs[1]
    shapes = sizes.shape(left), sizes.shape(right)
    reshapes = [_reshape(left, sizes), _reshape(right, sizes)]
    first = reshapes[0] or reshapes[1]
    if first is None or left is None or right is None:
        return None
    inputs: list[ir.Value | None] = []
    for value, reshape in zip((left, right), reshapes, strict=True):
        if (reshape is not None and shapes[0] == shapes[1]) or (
            reshape is not None and _is_vector(right if value is left else left)
        ):
            inputs.append(reshape.inputs[0])
        elif reshape is None and (_is_vector(value) or shapes[0] == shapes[1]):
            if not _is_vector(value) and not (sizes.rank(value) == 3 and _read_as_rows(value)):
                return None
            inputs.append(value)
        else:
            return None
    return _sunk(node, inputs, first.inputs[1], sizes)


def _reshape(value: ir.Value | None, sizes: Sizes) -> ir.Node | None:
    """The Reshape of a matrix to more axes, of which the last is that of the matrix."""
    node = produced_by(value, "Reshape")
    if node is None or value is None or value.is_graph_output():
        return None
    count, width = sizes.rank(value), sizes.number(value, -1)
    rows = node.inputs[0]
    if count is None or count < 3 or sizes.rank(rows) != 2 or width is None:
        return None
    return node if sizes.number(rows, -1) == width else None


def _rows(to: Builder, value: ir.Value, sizes: Sizes) -> ir.Value:
    return to.op("Reshape", value, to.constant(np.array([-1, sizes.number(value, -1)]), "rows"))


def _read_as_rows(value: ir.Value) -> bool:
    """Whether something makes a matrix of ``value``."""
    for use in value.uses():
        target = queries.constant(use.node.inputs[1]) if use.node.op_type == "Reshape" else None
        if target is not None and target.size == 2:
            return True
    return False


def _is_vector(value: ir.Value) -> bool:
    shape = queries.static_shape(value)
    return shape is not None and len(shape) <= 1


def _is_last_axis(node: ir.Node, sizes: Sizes) -> bool:
    axis = queries.attribute(node, "axis", -1)
    return axis in (-1, (sizes.rank(node.inputs[0]) or 0) - 1)
