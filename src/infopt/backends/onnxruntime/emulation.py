"""16-bit floating point on a processor: what a device computes, rounding by rounding.

ONNX Runtime's CPU provider has next to no kernels for float16 and none that computes for bfloat16
(1.31). It runs a float16 model by casting it to float32 and drops the casts in between, so that
nothing overflows that would on a device; a bfloat16 model it does not load. So that a simulation
shows what a device would, each node computes in float32 here, on inputs that are cast up, and its
outputs are rounded to the type that the model says: by casts that are in the model, and stay. The
kernels of a device that sum up in float32 inside do the same.
"""

from __future__ import annotations

import onnx_ir as ir

from infopt.ir import queries
from infopt.ir.schemas import HALVES, is_tensor
from infopt.passes.editing import RANDOM, Editor, operators

_AS_IT_IS = RANDOM | operators(
    "Cast CastLike Constant ConstantOfShape DequantizeLinear EyeLike QuantizeLinear"
)
"""Operators that compute nothing, or have their kernels."""


def computes_in_halves(model: ir.Model) -> bool:
    """Whether a node of ``model`` computes in 16-bit floating point."""
    return any(map(_computes, queries.nodes(model)))


def emulated(model: ir.Model) -> ir.Model:
    """A copy of ``model`` that computes in float32 and rounds as it would have."""
    copy = model.clone()
    editor = Editor(copy)
    for graph in list(queries.graphs(copy)):
        wide: dict[ir.Value, ir.Value] = {}
        for node in list(graph):
            if _computes(node):
                _emulate(node, wide, editor)
    return copy


def _computes(node: ir.Node) -> bool:
    if node.domain == "" and node.op_type in _AS_IT_IS:
        return False
    if any(True for _ in queries.subgraphs_of(node)):
        return False
    return any(_is_half(value) for value in (*node.inputs, *node.outputs))


def _is_half(value: ir.Value | None) -> bool:
    return value is not None and value.dtype in HALVES and is_tensor(value)


def _emulate(node: ir.Node, wide: dict[ir.Value, ir.Value], editor: Editor) -> None:
    graph = node.graph
    assert graph is not None
    for index, value in enumerate(node.inputs):
        if value is None or not _is_half(value):
            continue
        if value not in wide:
            cast = _cast(value, editor.fresh_name(f"{value.name}_wide"), ir.DataType.FLOAT)
            graph.insert_before(node, cast)
            wide[value] = cast.outputs[0]
        node.replace_input_with(index, wide[value])
    for value in reversed(node.outputs):
        if not _is_half(value) or not value.name:
            continue
        dtype, name = value.dtype, value.name
        assert dtype is not None
        value.name = editor.fresh_name(f"{name}_unrounded")
        value.type = ir.TensorType(ir.DataType.FLOAT)
        cast = _cast(value, name, dtype)
        cast.replace_input_with(0, None)  # else it would read itself
        value.replace_all_uses_with(cast.outputs[0], replace_graph_outputs=True)
        cast.replace_input_with(0, value)
        graph.insert_after(node, cast)


def _cast(value: ir.Value, name: str, to: ir.DataType) -> ir.Node:
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", to)], num_outputs=1)
    output = node.outputs[0]
    output.name, output.type = name, ir.TensorType(to)
    output.shape = None if value.shape is None else value.shape.copy()
    return node
