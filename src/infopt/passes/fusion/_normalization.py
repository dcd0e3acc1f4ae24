"""The steps that layer and root mean square normalization share."""

from __future__ import annotations

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import (
    either_way,
    is_scalar,
    keeps_shape,
    produced_by,
    reduced_axes,
    size,
    with_scalar,
)


def normalized(node: ir.Node) -> tuple[ir.Value, ir.Node, float] | None:
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


def channels(x: ir.Value, *means: ir.Node) -> int | str:
    """The size of the last axis, that of all ``means``; or why the operator does not fit here."""
    if any(reduced_axes(mean) != (-1,) for mean in means):
        return f"{'the' if len(means) == 1 else 'a'} mean is not that of the last axis, kept"
    length = size(x, -1)
    if length is None:
        return "the size of the last axis is known only at run time"
    if x.dtype != ir.DataType.FLOAT:
        # In 16 bits the parts round, and overflow, where the operator's float32 stash does not.
        return f"it is computed in {x.dtype}, not in float32"
    return length


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


def following(
    node: ir.Node, op_type: str, length: int
) -> tuple[ir.Node, ir.Value] | tuple[None, None]:
    """The Mul or Add that alone reads ``node``, and its other input: a constant per channel."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None, None
    reader = uses[0].node
    if not queries.is_standard(reader, op_type) or reader.graph is not node.graph:
        return None, None
    for value, constant in either_way(reader):
        if value is not node.outputs[0] or constant.dtype != value.dtype:
            continue
        initializer = constant.is_initializer() and not constant.is_graph_input()
        if initializer and queries.static_shape(constant) == (length,):
            return reader, constant
    return None, None


def centered(value: ir.Value | None) -> tuple[ir.Value, ir.Node] | None:
    """``x`` and its mean, if ``value`` is ``x - mean(x)``."""
    sub = produced_by(value, "Sub")
    mean = None if sub is None else produced_by(sub.inputs[1], "ReduceMean")
    if sub is None or mean is None or sub.inputs[0] is None or mean.inputs[0] is not sub.inputs[0]:
        return None
    return sub.inputs[0], mean
