"""Follows sizes and small integer tensors through a graph before it runs."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from infopt.ir.queries import GraphLike
from infopt.passes.sizes.content_rules import CONTENTS
from infopt.passes.sizes.known import INTEGRAL, Dim, Entry, Known, Sum
from infopt.passes.sizes.shape_rules import SHAPES, split_shapes


class Sizes(Known):
    """The sizes and contents of the values of a graph; :meth:`visit` its nodes in order."""

    @classmethod
    def of(cls, root: GraphLike) -> Sizes:
        """What is known of ``root`` and of all graphs nested in it."""
        sizes = cls()
        for node in root.all_nodes():
            sizes.visit(node)
        return sizes

    def visit(self, node: ir.Node) -> None:
        """Learn what can be learnt of the outputs of ``node``."""
        if node.domain != "" or any(attr.is_ref() for attr in node.attributes.values()):
            return
        if node.op_type == "Split":
            for output, sizes in zip(node.outputs, split_shapes(self, node), strict=False):
                self.learn_shape(output, sizes)
            return
        output = node.outputs[0]
        shape_rule, content_rule = SHAPES.get(node.op_type), CONTENTS.get(node.op_type)
        shape = None if shape_rule is None else shape_rule(self, node)
        if shape is not None:
            self.learn_shape(output, shape)
        if content_rule is None or output.dtype not in INTEGRAL:
            return
        content = content_rule(self, node)
        if content is not None:
            self.learn_content(output, content)

    def rank(self, value: ir.Value | None) -> int | None:
        """The number of axes of ``value``, if it is known."""
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def number(self, value: ir.Value | None, axis: int) -> int | None:
        """The size of one axis (negative ones count from the end), if it is a known number."""
        shape = self.shape(value)
        if shape is None or not -len(shape) <= axis < len(shape):
            return None
        entry = shape[axis]
        return entry if isinstance(entry, int) else None

    def agree(self, a: ir.Value, axis_a: int, b: ir.Value, axis_b: int) -> bool:
        """Whether these two axes are as long, by origin or, in the same graph, by name.

        Names are not checked by runtimes: believe them only where a model in which they were
        wrong would fail anyway.
        """
        left, right = self.shape(a), self.shape(b)
        if left is None or right is None:
            return False
        if alike(left[axis_a], right[axis_b]):
            return True
        name = _name(Dim(a, axis_a))
        return name is not None and name == _name(Dim(b, axis_b))


def alike(a: Entry, b: Entry) -> bool:
    """Whether two sizes are the same, by origin or by name, as :meth:`Sizes.agree` says."""
    if a is None or b is None:
        return False
    return a == b or (_name(a) is not None and _name(a) == _name(b))


def _name(size: Entry) -> object:
    """What a size is called, and in which graph; ``None`` if it has no name."""
    if isinstance(size, Sum):
        names = [(_name(part), count) for part, count in size.counts]
        return None if any(name is None for name, _ in names) else (Counter(names), size.number)
    if not isinstance(size, Dim) or size.value.shape is None:
        return None
    dim = size.value.shape[size.axis]
    named = isinstance(dim, ir.SymbolicDim) and dim.value is not None
    return (dim, id(size.value.graph)) if named else None
