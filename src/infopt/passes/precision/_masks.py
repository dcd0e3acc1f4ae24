"""Additive masks: large negative numbers that stand for "never", whatever the type holds.

A mask of -1.7e38 would become minus infinity in float16, and a row of nothing else no number at
all. So the numbers of a mask are bounded where they enter the smaller type, and minus infinity,
which somebody wrote on purpose, stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import input_at

_ATTENTION_MASK = 3

_CARRIED = {
    "Add": (0, 1),
    "Cast": (0,),
    "Concat": None,
    "ConstantOfShape": (),
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "Identity": (0,),
    "Max": None,
    "Min": None,
    "Reshape": (0,),
    "Slice": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "Transpose": (0,),
    "Trilu": (0,),
    "Unsqueeze": (0,),
    "Where": (1, 2),
}
"""Operators whose output is a mask if these inputs (``None``: all of them) are."""


class Masks:
    """The masks of one graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self.values: set[ir.Value] = set()
        """All that is added to scores before a softmax; scores on their way there are among it."""
        self.nodes: set[ir.Node] = set()
        """The nodes on the way: what they compute of bounded masks is a bounded mask."""
        pending = [value for node in graph for value in _seeds(node)]
        while pending:
            value = pending.pop()
            if value in self.values or value.dtype != ir.DataType.FLOAT:
                continue
            self.values.add(value)
            node = value.producer()
            if node is None or node.graph is not graph:
                continue
            if queries.is_standard(node, *_CARRIED):
                self.nodes.add(node)
                pending += carried(node)


def is_mask(node: ir.Node, index: int) -> bool:
    """Whether this input of ``node`` is a mask by its very place."""
    return queries.is_standard(node, "Attention") and index == _ATTENTION_MASK


def is_softmax(node: ir.Node) -> bool:
    """Whether the first input of ``node`` are scores, masks and all."""
    return queries.is_standard(node, "Softmax", "LogSoftmax")


def carried(node: ir.Node) -> Iterator[ir.Value]:
    """The inputs of a node on the way that are masks, too."""
    places = _CARRIED[node.op_type]
    for index in range(len(node.inputs)) if places is None else places:
        value = input_at(node, index)
        if value is not None and value.dtype == ir.DataType.FLOAT:
            yield value


def may_be_infinite(value: ir.Value, nodes: set[ir.Node]) -> bool:
    """Whether minus infinity may be in a mask: not if it is made of finite constants alone."""
    tensor = queries.constant_tensor(value)
    if tensor is not None:
        return bool(np.isinf(tensor.numpy()).any())
    node = value.producer()
    if node is None or node not in nodes or node.op_type in ("Add", "Cast", "ConstantOfShape"):
        return True
    return any(may_be_infinite(source, nodes) for source in carried(node))


def _seeds(node: ir.Node) -> Iterator[ir.Value]:
    if queries.is_standard(node, "Attention"):
        value = input_at(node, _ATTENTION_MASK)
    elif is_softmax(node):
        value = input_at(node, 0)
    else:
        return
    if value is not None:
        yield value
