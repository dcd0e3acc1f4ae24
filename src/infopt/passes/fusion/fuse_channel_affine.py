"""fuse-channel-affine: what scales or shifts a channel goes into the weights beside it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._weighted import flat, is_per_channel, multiplied, weighted
from infopt.passes.matching import either_way, is_read_outside, keeps_shape, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

BEHIND = "channel-affine"
IN_FRONT = "scaled-input"


@dataclasses.dataclass(frozen=True)
class FuseChannelAffine(Fusion):
    """``Conv(x, W, b) * s`` becomes ``Conv(x, s * W, s * b)``, ``… + t`` becomes ``… b + t``.

    The constants have one element or one per output channel; Sub and Div count as Add and Mul.
    The operator may be a ConvTranspose, a Gemm, or a MatMul with a constant weight and perhaps
    the Add of a bias, as in front of the layer scale of a vision transformer. A constant by
    which the input of a MatMul was multiplied goes into the rows of its weight. All of them are
    linear, so this is the distributive law.
    """

    name: ClassVar[str] = "fuse-channel-affine"
    anchors: ClassVar[frozenset[str]] = frozenset({"Mul", "Div", "Add", "Sub", "MatMul"})
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        del sizes
        if node.op_type == "MatMul":
            return _scaled_input(node)
        for value, constant in either_way(node):
            if node.op_type == "Div" and value is not node.inputs[0]:
                continue
            if queries.constant_tensor(constant) is not None:
                return _affine(node, value, constant)
        return None


def _affine(node: ir.Node, value: ir.Value, other: ir.Value) -> Answer:
    """The operator whose output is combined with a constant."""
    output, found = node.outputs[0], weighted(value, node)
    if found is None:
        return None
    if node.op_type in ("Add", "Sub") and (
        isinstance(found, str) or (found.node.op_type == "MatMul" and not found.bias)
    ):
        return None  # a bias: no nearer to this pattern than any other sum
    if isinstance(found, str):
        return Miss(BEHIND, found)
    if not is_per_channel(queries.static_shape(other), found.axis, found.channels):
        return Miss(BEHIND, "the constant is not one number a channel")
    if not keeps_shape(node, value):
        return Miss(BEHIND, "the constant may give its result another shape")
    changed = found.changed(*_terms(node, value, flat(other)))
    if changed is None:
        return Miss(BEHIND, f"the weights that it would make are no numbers of {value.dtype}")
    return Found(BEHIND, lambda to: found.rebuilt(to, output, changed))


def _terms(
    node: ir.Node, value: ir.Value, constant: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The factors and summands by which ``node`` changes ``value``."""
    if node.op_type == "Mul":
        return constant, None
    if node.op_type == "Div":
        with np.errstate(divide="ignore"):
            return 1.0 / constant, None
    if node.op_type == "Add":
        return None, constant
    return (None, -constant) if value is node.inputs[0] else (np.full(1, -1.0), constant)


def _scaled_input(node: ir.Node) -> Answer:
    """The MatMul of a scaled input with a constant weight."""
    mul = produced_by(node.inputs[0], "Mul")
    weight = queries.constant(node.inputs[1])
    if mul is None or weight is None or weight.ndim < 2 or 0 in weight.shape:
        return None
    for x, constant in either_way(mul):
        if queries.constant_tensor(constant) is not None:
            return _into_rows(node, mul, x, constant, weight)
    return None


def _into_rows(
    node: ir.Node, mul: ir.Node, x: ir.Value, factor: ir.Value, weight: np.ndarray
) -> Answer:
    shape = queries.static_shape(factor)
    if not is_per_channel(shape, -1, weight.shape[-2]) or not keeps_shape(mul, x):
        return Miss(IN_FRONT, "the constant is not one number, nor one for each row of the weight")
    if is_read_outside(mul.outputs[0], [node]):
        return Miss(IN_FRONT, "something else reads the scaled input")
    if x.dtype is None or not x.dtype.is_floating_point():
        return Miss(IN_FRONT, f"it is computed in {x.dtype}")
    scaled = multiplied(weight, flat(factor)[:, None])
    if scaled is None:
        return Miss(IN_FRONT, f"the weights that it would make are no numbers of {x.dtype}")

    def build(to: Builder) -> ir.Value:
        return to.op("MatMul", x, to.constant(scaled, "weight"), like=node.outputs[0])

    return Found(IN_FRONT, build)
