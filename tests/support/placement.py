"""Where QuantizeLinear and DequantizeLinear may stand for TensorRT, rule by rule."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import is_read_outside, produced_by

WEIGHTED = ("Conv", "Gemm", "MatMul")


def violations(model: ir.Model, *, channels: int = 16, grouped: bool = True) -> list[str]:
    """What the model has that it must not have; empty if all is well."""
    found: list[str] = []
    for node in queries.nodes(model):
        if queries.is_standard(node, "QuantizeLinear", "DequantizeLinear"):
            found += _of_pair(node)
        found += [f"{node.op_type} {node.name}: {what}" for what in _of_reader(node)]
        if queries.is_standard(node, "Conv") and is_dequantized(node.inputs[1]):
            found += _of_convolution(node, channels, grouped)
    return found


def quantized(model: ir.Model) -> dict[str, int]:
    """How many of which operators read what was quantized."""
    names = [
        node.op_type
        for node in queries.nodes(model)
        if any(map(is_dequantized, node.inputs)) and node.op_type != "QuantizeLinear"
    ]
    return {name: names.count(name) for name in sorted(set(names))}


def is_dequantized(value: ir.Value | None) -> bool:
    """Whether ``value`` was dequantized."""
    return produced_by(value, "DequantizeLinear") is not None


def _of_pair(node: ir.Node) -> Iterator[str]:
    name = f"{node.op_type} {node.name}"
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if zero_point is not None:
        array = queries.constant(zero_point)
        if array is None or array.astype(np.float32).any():
            yield f"{name}: its zero point is not 0"
    constant = queries.constant_tensor(node.inputs[0]) is not None
    if node.op_type == "QuantizeLinear":
        if constant:
            yield f"{name}: a constant is quantized at run time"
        if queries.static_shape(node.inputs[1]) != ():
            yield f"{name}: an activation has several scales"
        for use in node.inputs[0].uses() if node.inputs[0] is not None else ():
            if queries.is_standard(use.node, "Relu", "Clip") and use.node is not node:
                yield f"{name}: what {use.node.op_type} reads is rounded before it"
    elif constant and queries.static_shape(node.inputs[1]) == ():
        yield f"{name}: weights have one scale"


def _of_reader(node: ir.Node) -> Iterator[str]:
    read = [index for index, value in enumerate(node.inputs) if is_dequantized(value)]
    if not read:
        return
    if queries.is_standard(node, *WEIGHTED):
        if read != [0, 1]:
            yield f"of its inputs {read} are quantized"
    elif queries.is_standard(node, "Add"):
        other = node.inputs[1 - read[0]]
        if len(read) != 1 or other is None or produced_by(other, "Conv") is None:
            yield "it is no sum of a convolution and one quantized value"
        elif is_read_outside(other, [node]) or not is_dequantized(_weights(other)):
            yield "the convolution cannot take it in, or does not compute with integers"
    else:
        yield "it reads what was quantized"


def _weights(result: ir.Value) -> ir.Value | None:
    node = result.producer()
    assert node is not None
    return node.inputs[1]


def _of_convolution(node: ir.Node, channels: int, grouped: bool) -> Iterator[str]:
    shape = queries.static_shape(node.inputs[1])
    assert shape is not None
    if queries.attribute(node, "group", 1) > 1:
        if not grouped:
            yield f"Conv {node.name}: it has groups"
    elif min(shape[:2]) < channels:
        yield f"Conv {node.name}: it has {min(shape[:2])} channels"
