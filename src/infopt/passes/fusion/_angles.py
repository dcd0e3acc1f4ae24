"""The sines and cosines of a rotary embedding: each number stands there twice, wanted is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._heads import length_of
from infopt.passes.matching import input_at, produced_by, with_scalar
from infopt.passes.rewriting import Builder
from infopt.passes.sizes import Sizes

Write = Callable[[Builder], ir.Value]

PASSED = ("Cos", "Sin", "Cast", "Mul", "Div", "Gather", "Unsqueeze", "Slice")
"""What may be computed of a table in which each number stands twice, so that it still does."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the rotated values lie."""

    heads: int
    """The axis of the heads, of 4: 1, or 2 where the sequence comes before them."""
    interleaved: bool
    """Whether each element is rotated with its neighbour, and not with one of the other half."""

    @property
    def twins(self) -> str:
        """What must be the same in a table, in words."""
        return "neighbours" if self.interleaved else "halves"


def rows(value: ir.Value, layout: Layout, sizes: Sizes) -> Write | str:
    """Writes the sines or cosines once: (batch or 1, sequence, half of a head); or why not."""
    unsqueeze = produced_by(value, "Unsqueeze")
    count, heads = sizes.rank(value), layout.heads - 4
    differ = f"the {layout.twins} of its sines or cosines are not the same"
    if unsqueeze is not None and count == 4 and unsqueeze.inputs[0] is not None:
        axes = sizes.content(input_at(unsqueeze, 1))
        inner = unsqueeze.inputs[0]
        if axes is not None and axes.entries in ((layout.heads,), (heads,)):
            return _once(inner, layout, sizes) or differ
    if count is None or not 2 <= count <= 4:
        return f"its sines or cosines have rank {count}"
    if count >= -heads and sizes.number(value, heads) != 1:
        return "its sines or cosines are not the same for all heads"
    once = _once(value, layout, sizes)
    if once is None:
        return differ
    if count == 3 and layout.heads == 1:
        return once  # the axis of the heads is as long as that of one batch

    def write(to: Builder) -> ir.Value:
        result = once(to)
        if count >= -heads:
            result = to.op("Squeeze", result, to.constant(np.array([count + heads]), "axis"))
        if count == 4:
            return result
        return to.op("Unsqueeze", result, to.constant(np.array([0]), "axis"))

    return write


def batched(to: Builder, table: ir.Value, x: ir.Value, sizes: Sizes) -> ir.Value:
    """``table`` of shape (batch or 1, sequence, half), for every sequence of the batch."""
    if sizes.shape(table) is not None and sizes.agree(table, 0, x, 0):
        return table
    batch = length_of(to, sizes, x, 0)
    target = to.op("Concat", batch, to.constant(np.array([1, 1]), "ones"), axis=0)
    return to.op("Expand", table, target)


def flattened(value: ir.Value | None, sizes: Sizes) -> ir.Value | None:
    """What ``value`` is, with its last two axes made one by a Reshape; (…, n, 2) → (…, 2n)."""
    node = produced_by(value, "Reshape")
    inner = None if node is None else node.inputs[0]
    if value is None or inner is None or sizes.number(inner, -1) != 2:
        return None
    before, after = sizes.shape(inner), sizes.shape(value)
    pairs = sizes.number(inner, -2)
    if before is None or after is None or len(before) != len(after) + 1 or pairs is None:
        return None
    if after[-1] != 2 * pairs:
        return None
    # The elements are as many, so one axis follows from the others.
    kept = sum(sizes.agree(value, axis, inner, axis) for axis in range(len(after) - 1))
    return inner if kept >= len(after) - 2 else None


def on_last_axis(node: ir.Node, sizes: Sizes) -> bool:
    """Whether the attribute ``axis`` of ``node`` says the last one of its first input."""
    axis = queries.attribute(node, "axis", 0)
    return axis == -1 or axis == (sizes.rank(node.inputs[0]) or 0) - 1


def appended(value: ir.Value | None, sizes: Sizes) -> tuple[ir.Value, tuple[int, ...]] | None:
    """``x`` if ``value`` is ``x`` with one more axis at the end, and others before it, if any.

    The others are those of ``value``.
    """
    node = produced_by(value, "Unsqueeze")
    count = sizes.rank(value)
    axes = None if node is None else sizes.content(input_at(node, 1))
    if node is None or node.inputs[0] is None or axes is None or count is None or not axes.known:
        return None
    added = {int(str(axis)) % count for axis in axes.entries}
    return (node.inputs[0], tuple(sorted(added - {count - 1}))) if count - 1 in added else None


def _once(value: ir.Value, layout: Layout, sizes: Sizes) -> Write | None:
    """Writes the numbers of the last axis once, if each stands there twice."""
    tensor = queries.constant_tensor(value)
    if tensor is not None:
        return _of_table(tensor, layout)
    twice = (_repeated if layout.interleaved else _doubled)(value, sizes)
    if twice is not None:
        return twice
    node = produced_by(value, *PASSED)
    if node is None or not node.inputs or node.inputs[0] is None:
        return None
    scaled = with_scalar(node) if node.op_type in ("Mul", "Div") else None
    source = node.inputs[0] if scaled is None else scaled[0]
    if node.op_type in ("Mul", "Div") and scaled is None:
        return None
    if scaled is not None and sizes.rank(source) != sizes.rank(value):
        return None
    if not _keeps_last_axis(node, sizes):
        return None
    inner = _once(source, layout, sizes)
    if inner is None:
        return None
    attributes = {name: attr.value for name, attr in node.attributes.items()}

    def write(to: Builder) -> ir.Value:
        inputs = [inner(to) if other is source else other for other in node.inputs]
        return to.op(node.op_type, *inputs, **attributes)

    return write


def _doubled(value: ir.Value, sizes: Sizes) -> Write | None:
    """Writes ``x`` if ``value`` is ``x`` and behind it ``x`` again, along the last axis."""
    node = produced_by(value, "Concat")
    if node is None or len(node.inputs) != 2 or not on_last_axis(node, sizes):
        return None
    x, again = node.inputs
    return (lambda _: x) if x is not None and x is again else None


def _repeated(value: ir.Value, sizes: Sizes) -> Write | None:
    """Writes ``x`` if ``value`` is ``x`` with each element of the last axis twice."""
    pairs = flattened(value, sizes)
    node = produced_by(pairs, "Concat", "Expand", "Tile")
    found = None if node is None else appended(node.inputs[0], sizes)
    if node is None or found is None or pairs is None or node.inputs[0] is None:
        return None
    if node.op_type == "Concat":
        if len(node.inputs) != 2 or appended(node.inputs[1], sizes) != found:
            return None
        if not on_last_axis(node, sizes):
            return None
    else:
        before = range((sizes.rank(pairs) or 1) - 1)
        if not all(sizes.agree(pairs, axis, node.inputs[0], axis) for axis in before):
            return None
    x, others = found
    if not others:
        return lambda _: x
    return lambda to: to.op("Unsqueeze", x, to.constant(np.array(others), "axes"))


def _keeps_last_axis(node: ir.Node, sizes: Sizes) -> bool:
    """Whether an operator that moves elements leaves those along the last axis where they are."""
    count = sizes.rank(node.inputs[0])
    if node.op_type == "Gather":
        return count is not None and count > 1 and queries.attribute(node, "axis", 0) == 0
    if node.op_type in ("Unsqueeze", "Slice"):
        axes = sizes.content(input_at(node, 1 if node.op_type == "Unsqueeze" else 3))
        if axes is None or count is None or not axes.known:
            return False
        last = count if node.op_type == "Unsqueeze" else count - 1
        return all(axis not in (-1, last) for axis in axes.entries)
    return True


def _of_table(tensor: ir.TensorProtocol, layout: Layout) -> Write | None:
    if not tensor.shape.numpy() or tensor.shape.numpy()[-1] % 2:
        return None
    array = tensor.numpy()
    if layout.interleaved:
        first, second = array[..., ::2], array[..., 1::2]
    else:
        first, second = np.split(array, 2, axis=-1)
    if not np.array_equal(first, second):
        return None
    return lambda to: to.constant(np.ascontiguousarray(first), "half")
