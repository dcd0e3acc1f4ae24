"""fuse-rms-normalization: root mean square normalization as one operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Answer, Builder, Found, Fusion, Miss
from infopt.passes.matching import (
    either_way,
    is_scalar,
    keeps_shape,
    produced_by,
    reduced_axes,
    size,
    with_scalar,
)


@dataclasses.dataclass(frozen=True)
class FuseRmsNormalization(Fusion):
    """``x / sqrt(mean(x ** 2) + epsilon) * weight`` becomes ``RMSNormalization(x, weight)``.

    The mean runs over the last axis; the reciprocal root may be written in any of the usual
    ways. Where no constant weight follows, the weight is a constant of ones (Zhang and
    Sennrich, arXiv:1910.07467).
    """

    name: ClassVar[str] = "fuse-rms-normalization"
    anchors: ClassVar[frozenset[str]] = frozenset({"Mul", "Div"})
    min_opset: ClassVar[int] = 23

    def look(self, node: ir.Node) -> Answer:
        found = _normalized(node)
        if found is None:
            return None
        x, mean, epsilon = found
        if reduced_axes(mean) != (-1,):
            return Miss("rms-normalization", "the mean is not that of the last axis, kept")
        length = size(x, -1)
        if length is None:
            return Miss("rms-normalization", "the size of the last axis is known only at run time")
        if x.dtype != ir.DataType.FLOAT:
            # In 16 bits the parts round, and overflow, where the operator's float32 stash does not.
            return Miss("rms-normalization", f"it is computed in {x.dtype}, not in float32")
        weighted, weight = _weight(node, x, length)
        output = node.outputs[0] if weighted is None else weighted.outputs[0]

        def build(to: Builder) -> Sequence[ir.Value]:
            scale = weight or to.constant(np.ones(length, np.float32), "ones")
            normalized = to.op(
                "RMSNormalization", x, scale, like=output, axis=-1, epsilon=epsilon, stash_type=1
            )
            return [normalized]

        return Found("rms-normalization", build, (output,))


def _normalized(node: ir.Node) -> tuple[ir.Value, ir.Node, float] | None:
    """``x``, the mean and epsilon, if ``node`` computes ``x / sqrt(mean(x ** 2) + epsilon)``."""
    if node.op_type == "Div":
        root = produced_by(node.inputs[1], "Sqrt")
        pairs = [(node.inputs[0], None if root is None else root.inputs[0])]
    else:
        pairs = [(x, _under_root(factor)) for x, factor in either_way(node)]
    for x, variance in pairs:
        add = produced_by(variance, "Add")
        found = None if add is None else with_scalar(add)
        if x is None or add is None or found is None or not keeps_shape(add, found[0]):
            continue
        mean = produced_by(found[0], "ReduceMean")
        if mean is not None and _is_square(mean.inputs[0], x):
            return x, mean, found[1]
    return None


def _under_root(value: ir.Value) -> ir.Value | None:
    """``v`` of ``v ** -0.5``."""
    power = produced_by(value, "Pow")
    if power is not None:
        return power.inputs[0] if is_scalar(power.inputs[1], -0.5) else None
    node = produced_by(value, "Reciprocal", "Div")
    if node is None or (node.op_type == "Div" and not is_scalar(node.inputs[0], 1.0)):
        return None
    root = produced_by(node.inputs[-1], "Sqrt")
    return None if root is None else root.inputs[0]


def _is_square(value: ir.Value | None, x: ir.Value) -> bool:
    node = produced_by(value, "Pow", "Mul")
    if node is None or node.inputs[0] is not x:
        return False
    if node.op_type == "Mul":
        return node.inputs[1] is x
    return is_scalar(node.inputs[1], 2.0) and keeps_shape(node, x)


def _weight(
    node: ir.Node, x: ir.Value, length: int
) -> tuple[ir.Node, ir.Value] | tuple[None, None]:
    """The Mul that alone reads ``node``, and its weight, if that is a constant per channel."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None, None
    reader = uses[0].node
    if not queries.is_standard(reader, "Mul") or reader.graph is not node.graph:
        return None, None
    for value, weight in either_way(reader):
        if value is not node.outputs[0] or queries.constant_tensor(weight) is None:
            continue
        initializer = weight.is_initializer() and not weight.is_graph_input()
        if initializer and queries.static_shape(weight) == (length,) and weight.dtype == x.dtype:
            return reader, weight
    return None, None
