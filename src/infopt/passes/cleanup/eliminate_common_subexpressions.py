"""eliminate-common-subexpressions: compute the same thing once."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Hashable
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import RANDOM, Editor, is_used, why_irreplaceable

MAX_TENSOR_BYTES = 1 << 16
"""Larger tensors in attributes are taken for different; sharing weights is another pass's work."""

Table = ChainMap[Hashable, ir.Node]


@dataclasses.dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Of two nodes with the same operator, inputs and attributes only the first remains.

    A node in a subgraph may give way to one of a graph around it that comes before. Operators
    that draw random numbers, nodes with subgraphs, and operators outside of the standard
    domain, of which nothing is known, stay.
    """

    name: ClassVar[str] = "eliminate-common-subexpressions"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Visit each graph in order, so that inputs are merged before what reads them."""
        editor = Editor(model)
        for root in queries.roots(model):
            graph = root.graph if isinstance(root, ir.Function) else root
            _visit(graph, ChainMap(), editor, journal)


def _visit(graph: ir.Graph, seen: Table, editor: Editor, journal: Journal) -> None:
    for node in list(graph):
        subgraphs = list(queries.subgraphs_of(node))
        for subgraph in subgraphs:
            _visit(subgraph, seen.new_child(), editor, journal)
        key = None if subgraphs or node.domain != "" else _key(node)
        if key is None:
            continue
        first = seen.setdefault(key, node)
        if first is not node and any(map(is_used, node.outputs)):
            _merge(node, first, editor, journal)


def _merge(node: ir.Node, first: ir.Node, editor: Editor, journal: Journal) -> None:
    """Let what reads ``node`` read ``first``."""
    if node.op_type in RANDOM or _trains(node):
        journal.refuse("share", node, f"{node.op_type} draws another result each time")
        return
    for old, new in zip(node.outputs, first.outputs, strict=True):
        reason = why_irreplaceable(old, new)
        if reason is not None:
            journal.refuse("share", node, reason)
            return
    if journal.permits("share", node):
        for old, new in zip(list(node.outputs), list(first.outputs), strict=True):
            if is_used(old):
                editor.replace(old, new)


def _trains(node: ir.Node) -> bool:
    """Whether a Dropout drops anything, as far as is known."""
    if node.op_type != "Dropout" or len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    flag = queries.constant(node.inputs[2])
    return flag is None or bool(flag.item())


def _key(node: ir.Node) -> Hashable | None:
    """Equal for nodes that compute the same; ``None`` for a node that is like no other."""
    attributes: list[Hashable] = []
    for name in sorted(node.attributes):
        attr = node.attributes[name]
        value: Hashable
        if attr.is_ref():
            value = ("ref", attr.ref_attr_name)
        elif attr.type is ir.AttributeType.TENSOR:
            tensor = attr.as_tensor()
            if tensor.nbytes > MAX_TENSOR_BYTES:
                return None
            value = (tensor.dtype, tuple(tensor.shape), _bytes(tensor))
        elif attr.type in SIMPLE:
            value = repr(attr.value)  # 0.0 and -0.0 are equal, their texts are not
        else:
            return None
        attributes.append((name, attr.type, value))
    outputs = tuple(bool(output.name) for output in node.outputs)
    return (node.op_type, node.inputs, tuple(attributes), outputs)


def _bytes(tensor: ir.TensorProtocol) -> Hashable:
    if tensor.dtype is ir.DataType.STRING:
        return tuple(tensor.numpy().ravel().tolist())
    return tensor.tobytes()


SIMPLE = frozenset(
    (
        ir.AttributeType.FLOAT,
        ir.AttributeType.FLOATS,
        ir.AttributeType.INT,
        ir.AttributeType.INTS,
        ir.AttributeType.STRING,
        ir.AttributeType.STRINGS,
    )
)
