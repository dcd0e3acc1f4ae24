"""Small questions by which a pass recognizes a pattern, walking from a value to its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir

from infopt.ir import queries

SCALAR_TOLERANCE = 1e-6
"""How far, relatively, a constant may be from the number that a formula calls for: exporters
round it to the type of the model, and write out ``sqrt(2)`` with more or fewer digits."""

HALF_TOLERANCE = 2e-3
"""The same for constants of 16-bit types; bfloat16 keeps 8 bits."""


def produced_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that computes ``value``, if it is one of these standard operators.

    An operator with attributes that refer to those of a function is none: its meaning depends
    on the caller.
    """
    node = None if value is None else value.producer()
    if node is None or not queries.is_standard(node, *op_types):
        return None
    return None if any(attr.is_ref() for attr in node.attributes.values()) else node


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """An input of ``node``; ``None`` if it is omitted."""
    return node.inputs[index] if index < len(node.inputs) else None


def either_way(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """The two inputs of a commutative operator, in both orders; nothing if one is omitted."""
    first, second = node.inputs[0], node.inputs[1]
    if first is not None and second is not None:
        yield first, second
        yield second, first


def with_scalar(node: ir.Node) -> tuple[ir.Value, float] | None:
    """``(x, s)`` if ``node`` combines ``x`` with a constant ``s`` of one element, in any order."""
    for value, other in either_way(node):
        number = scalar(other)
        if number is not None:
            return value, number
    return None


def scalar(value: ir.Value | None) -> float | None:
    """The number that ``value`` always is, whatever its rank; ``None`` if it has several elements.

    Such a constant may raise the rank of what it is combined with; ask :func:`keeps_shape`.
    """
    tensor = queries.constant_tensor(value)
    if tensor is None or tensor.size != 1:
        return None
    array = tensor.numpy()
    if array.dtype.kind not in "fiub" and array.dtype.name not in ("bfloat16",):
        return None
    return float(array.astype(np.float64).ravel()[0])


def is_scalar(value: ir.Value | None, number: float) -> bool:
    """Whether ``value`` is always ``number``, as its own type can write it."""
    found = scalar(value)
    if found is None or value is None:
        return False
    half = value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return math.isclose(found, number, rel_tol=HALF_TOLERANCE if half else SCALAR_TOLERANCE)


def rank(value: ir.Value | None) -> int | None:
    """The number of axes of ``value``, if known."""
    return None if value is None or value.shape is None else len(value.shape)


def size(value: ir.Value | None, axis: int) -> int | None:
    """The size of one axis (negative ones count from the end), if it is known."""
    if value is None or value.shape is None:
        return None
    if not -len(value.shape) <= axis < len(value.shape):
        return None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else None


def keeps_shape(node: ir.Node, value: ir.Value) -> bool:
    """Whether the output of ``node`` surely has the shape of its input ``value``.

    So it is where every other input is a constant that broadcasts to ``value``, in which no
    axis of the constant is longer than 1 unless ``value`` is known to be as long there.
    """
    count = rank(value)
    for other in node.inputs:
        if other is value or other is None:
            continue
        shape = queries.static_shape(other)
        if shape is None:
            return False
        if not shape:
            continue
        if all(length == 1 for length in shape) and count is not None and len(shape) <= count:
            continue
        if count is None or len(shape) > count:
            return False
        for axis, length in enumerate(reversed(shape)):
            if length != 1 and size(value, -1 - axis) != length:
                return False
    return True


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that a Reduce operator reduces, counted from the end and sorted; keepdims is set.

    ``None`` if they are not constant, the rank is unknown, or the reduced axes are dropped.
    """
    source = node.inputs[0]
    count = rank(source)
    if queries.attribute(node, "keepdims", 1) != 1:
        return None
    given = input_at(node, 1)
    if count is None:
        array = queries.constant(given)
        if array is None or not array.size or (array >= 0).any():
            return None
        return tuple(sorted(int(axis) for axis in array.ravel()))
    if given is None:
        axes: tuple[int, ...] | None = queries.attribute(node, "axes", None)
        if axes is None:
            if queries.attribute(node, "noop_with_empty_axes", 0):
                return ()
            axes = tuple(range(count))
    else:
        array = queries.constant(given)
        if array is None:
            return None
        axes = tuple(int(axis) for axis in array.ravel()) or (
            () if queries.attribute(node, "noop_with_empty_axes", 0) else tuple(range(count))
        )
    return tuple(sorted(axis % count - count for axis in axes))


def is_read_outside(value: ir.Value, nodes: Iterable[ir.Node]) -> bool:
    """Whether anything but ``nodes`` reads ``value``: another node, or the caller of the graph."""
    if value.is_graph_output():
        return True
    inside = set(nodes)
    return any(use.node not in inside for use in value.uses())


def column_bias(product: ir.Node, columns: int) -> tuple[ir.Node, int] | None:
    """The Add behind ``product``, and which of its inputs is a constant for each column.

    Only where nothing else reads the product.
    """
    value = product.outputs[0]
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.graph is not product.graph:
        return None
    add, index = uses[0].node, 1 - uses[0].idx
    if not queries.is_standard(add, "Add"):
        return None
    other = add.inputs[index]
    constant = queries.constant_tensor(other) is not None
    return (add, index) if constant and queries.static_shape(other) == (columns,) else None
