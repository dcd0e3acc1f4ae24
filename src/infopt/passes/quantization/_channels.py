"""Dividing the channels of a value by dividing constants in front of it, where that is exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.editing import Editor, erase_unused
from infopt.passes.matching import either_way, input_at, produced_by, rank


@dataclasses.dataclass(frozen=True)
class Constant:
    """A constant whose entries along ``axis`` belong to the channels."""

    node: ir.Node
    index: int
    """Which input of ``node`` it is."""
    axis: int


Plan = tuple[Constant, ...]


def plan(value: ir.Value, readers: Collection[ir.Node]) -> Plan | str:
    """Which constants to divide so that the last axis of ``value`` is divided; or why not.

    Normalizations have weights and biases, linear layers output channels, quantized or not.
    Between them and ``value`` there may be biases, Relu (which commutes with a positive factor),
    a gate (one of two factors is enough), reshapes that keep the channels, and attention, whose
    result is a mean of its values.

    Args:
        value: What is to be divided.
        readers: Nodes to which the division is made up for. Others may not read any of this.
    """
    outside = next((use.node for use in value.uses() if use.node not in readers), None)
    if outside is not None:
        return f"{outside.op_type} {outside.name!r} reads it, too"
    if any(list(reader.inputs).count(value) > 1 for reader in readers):
        return "it is read twice"
    node = value.producer()
    inside = node is not None and all(reader.graph is node.graph for reader in readers)
    if node is None or not inside or value.is_graph_output():
        return "it comes from, or goes, where it cannot be divided"
    if len(node.outputs) > 1 and any(other.uses() for other in node.outputs if other is not value):
        return f"{node.op_type} {node.name!r} has other results, too"
    channels = _channels(value)
    look = _PRODUCERS.get(node.op_type) if node.domain == "" else None
    if look is None or channels is None or any(attr.is_ref() for attr in node.attributes.values()):
        return f"it comes from {node.op_type} {node.name!r}, which cannot divide it"
    return look(node, channels)


def divide(found: Plan, scale: np.ndarray, editor: Editor) -> None:
    """Divide the constants of a plan; whatever else reads them goes on reading what they were.

    Args:
        found: The plan.
        scale: float32 ``(channels,)``.
        editor: Of the model.
    """
    for constant in found:
        old = constant.node.inputs[constant.index]
        array = queries.constant(old)
        assert old is not None
        assert array is not None
        shape = [-1 if axis == constant.axis else 1 for axis in range(array.ndim)]
        divided = (array / scale.reshape(shape)).astype(array.dtype)
        new = editor.add_constant(constant.node, divided, f"{old.name}_divided")
        constant.node.replace_input_with(constant.index, new)
        erase_unused(old)


def divide_at_run_time(
    value: ir.Value, readers: Sequence[ir.Node], scale: np.ndarray, editor: Editor
) -> None:
    """Let products read ``value`` divided, by a Mul in front of the first of them.

    Args:
        value: What is to be divided.
        readers: Nodes of one graph, in its order, that have ``value`` as their first input.
        scale: float32 ``(channels,)``.
        editor: Of the model.
    """
    first, graph = readers[0], readers[0].graph
    assert graph is not None
    factors = editor.add_constant(first, np.float32(1) / scale, f"{value.name}_factors")
    node = ir.Node("", "Mul", [value, factors], num_outputs=1)
    node.name = editor.fresh_name(f"{value.name}/Mul")
    product = node.outputs[0]
    product.name, product.type = editor.fresh_name(f"{value.name}_Mul"), value.type
    product.shape = None if value.shape is None else value.shape.copy()
    graph.insert_before(first, node)
    for reader in readers:
        reader.replace_input_with(0, product)


def _normalization(node: ir.Node, channels: int) -> Plan | str:
    last = -1 if rank(node.inputs[0]) is None else rank(node.inputs[0]) or 0
    if queries.attribute(node, "axis", -1) not in (-1, last - 1):
        return f"{node.op_type} {node.name!r} normalizes more than the channels"
    return _vectors(node, (1, 2), channels)


def _vectors(node: ir.Node, indices: tuple[int, ...], channels: int) -> Plan | str:
    """These inputs of ``node``, as far as there are any, if they are constants ``(channels,)``."""
    found = []
    for index in indices:
        value = input_at(node, index)
        if value is None:
            continue
        if queries.constant_tensor(value) is None or queries.static_shape(value) != (channels,):
            return f"{node.op_type} {node.name!r} has no constant for each channel"
        found.append(Constant(node, index, 0))
    return tuple(found)


def _linear(node: ir.Node, channels: int) -> Plan | str:
    transposed = node.op_type == "Gemm" and queries.attribute(node, "transB", 0)
    weights = _weights(node, 0 if transposed else 1, channels)
    bias = _vectors(node, (2,), channels) if node.op_type == "Gemm" else ()
    if isinstance(weights, str) or isinstance(bias, str):
        return weights if isinstance(weights, str) else bias
    return (weights, *bias)


def _weights(node: ir.Node, axis: int, channels: int) -> Constant | str:
    """The weights of ``node``, whose ``axis`` holds the channels, or their scales."""
    weights = node.inputs[1]
    if queries.constant_tensor(weights) is not None and rank(weights) == 2:
        return Constant(node, 1, axis)
    read = produced_by(weights, "DequantizeLinear")
    if read is None or weights is None or len(weights.uses()) > 1:
        return f"{node.op_type} {node.name!r} has no weights of its own"
    shape = queries.static_shape(read.inputs[1])
    one_each = shape == (channels,) and queries.attribute(read, "axis", 1) == axis
    if shape is None or not (one_each or (len(shape) == 2 and shape[axis] == channels)):
        return f"{node.op_type} {node.name!r} has no scale for each channel"
    return Constant(read, 1, axis if len(shape) == 2 else 0)


def _bias(node: ir.Node, channels: int) -> Plan | str:
    for value, other in either_way(node):
        if queries.constant_tensor(other) is not None:
            index = list(node.inputs).index(other)
            if _channels(value) != channels:
                return f"Add {node.name!r} spreads one channel over several"
            bias = _vectors(node, (index,), channels)
            before = plan(value, (node,))
            if isinstance(bias, str) or isinstance(before, str):
                return bias if isinstance(bias, str) else before
            return (*before, *bias)
    return f"it comes from Add {node.name!r} of two values, which cannot divide it"


def _factor(node: ir.Node, channels: int) -> Plan | str:
    """One factor is enough: a constant one, else the one that can be divided."""
    reasons = []
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        constant = queries.constant_tensor(value) is not None
        if not constant and _channels(value) != channels:
            continue
        found = _vectors(node, (index,), channels) if constant else plan(value, (node,))
        if not isinstance(found, str):
            return found
        reasons.append(found)
    return "; ".join(reasons) or f"Mul {node.name!r} has no factor with all channels"


def _through(node: ir.Node, channels: int) -> Plan | str:
    value = node.inputs[0]
    if value is None or _channels(value) != channels:
        return f"{node.op_type} {node.name!r} does not keep the channels"
    return plan(value, (node,))


def _attention(node: ir.Node, channels: int) -> Plan | str:
    heads = queries.attribute(node, "q_num_heads", 0)
    values = input_at(node, 2)
    if not heads or heads != queries.attribute(node, "kv_num_heads", 0) or rank(values) != 3:
        return f"Attention {node.name!r} reads the same values in several heads"
    if input_at(node, 4) is not None or input_at(node, 5) is not None:
        return f"Attention {node.name!r} reads values of an earlier call, too"
    assert values is not None
    return plan(values, (node,))


def _channels(value: ir.Value) -> int | None:
    size = None if value.shape is None or not len(value.shape) else value.shape[-1]
    return size if isinstance(size, int) else None


_PRODUCERS = {
    "LayerNormalization": _normalization,
    "RMSNormalization": _normalization,
    "MatMul": _linear,
    "Gemm": _linear,
    "Add": _bias,
    "Mul": _factor,
    "Relu": _through,
    "Reshape": _through,
    "Attention": _attention,
}
