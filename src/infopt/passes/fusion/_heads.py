"""How attention splits and merges heads, and repeats those of grouped keys and values."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import produced_by
from infopt.passes.rewriting import Builder
from infopt.passes.sizes import Sizes, alike
from infopt.passes.sizes.known import Dim

HEADS_FIRST = (0, 2, 1, 3)
"""(batch, sequence, heads, size of a head) ↔ (batch, heads, sequence, size of a head)."""


def transposed(value: ir.Value | None, sizes: Sizes) -> tuple[ir.Value, tuple[int, ...]] | None:
    """The input and the permutation of the Transpose that computes ``value``."""
    node = produced_by(value, "Transpose")
    if node is None or node.inputs[0] is None:
        return None
    source = node.inputs[0]
    count = sizes.rank(source)
    if "perm" in node.attributes:
        return source, tuple(node.attributes["perm"].as_ints())
    return None if count is None else (source, tuple(range(count))[::-1])


def split(value: ir.Value | None, sizes: Sizes) -> tuple[ir.Value, int] | None:
    """``x`` of shape (batch, sequence, heads · size) and ``heads``, if ``value`` is its heads.

    ``value`` is (batch, heads, sequence, size), by a Reshape and a Transpose.
    """
    found = transposed(value, sizes)
    return None if found is None or found[1] != HEADS_FIRST else parted(found[0], sizes)


def parted(parts: ir.Value, sizes: Sizes) -> tuple[ir.Value, int] | None:
    """``x`` of shape (batch, sequence, heads · size) and ``heads``, if ``parts`` has both axes.

    ``parts`` is (batch, sequence, heads, size), by a Reshape.
    """
    reshape = produced_by(parts, "Reshape")
    if reshape is None or reshape.inputs[0] is None or sizes.rank(reshape.inputs[0]) != 3:
        return None
    x = reshape.inputs[0]
    heads, length = sizes.number(parts, 2), sizes.number(parts, 3)
    if sizes.rank(parts) != 4 or heads is None or length is None:
        return None
    if sizes.number(x, 2) != heads * length:
        return None
    # The elements are as many, so one of batch and sequence follows from the other.
    if not (sizes.agree(parts, 0, x, 0) or sizes.agree(parts, 1, x, 1)):
        return None
    return x, heads


def merged(value: ir.Value, sizes: Sizes) -> ir.Value | None:
    """The value of shape (batch, sequence, heads · size) that all readers of ``value`` make of it.

    ``None`` if something reads the heads in another way.
    """
    transpose = _only_reader(value, "Transpose")
    if transpose is None or tuple(queries.attribute(transpose, "perm", ())) != HEADS_FIRST:
        return None
    parts = transpose.outputs[0]
    reshape = _only_reader(parts, "Reshape")
    if reshape is None or reshape.inputs[0] is not parts:
        return None
    joined = reshape.outputs[0]
    heads, length = sizes.number(value, 1), sizes.number(value, 3)
    if (
        sizes.rank(joined) != 3
        or heads is None
        or length is None
        or sizes.number(joined, 2) != heads * length
    ):
        return None
    if not (sizes.agree(parts, 0, joined, 0) or sizes.agree(parts, 1, joined, 1)):
        return None
    return joined


def _only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.op_type != op_type:
        return None
    node = uses[0].node
    return node if node.domain == "" and node.graph is value.graph else None


def unflattened(value: ir.Value | None, sizes: Sizes) -> ir.Value | None:
    """``x`` of shape (batch, heads, rows, columns) if the first two are one axis of ``value``."""
    node = produced_by(value, "Reshape")
    x = None if node is None else node.inputs[0]
    if value is None or x is None or sizes.rank(x) != 4 or sizes.rank(value) != 3:
        return None
    return x if sizes.agree(value, 1, x, 2) and sizes.agree(value, 2, x, 3) else None


def grouped(value: ir.Value, sizes: Sizes) -> ir.Value:
    """``x`` of shape (batch, groups, sequence, size), of whose heads ``value`` repeats each.

    ``value`` itself if it is no such thing.
    """
    reshape = produced_by(value, "Reshape")
    expand = None if reshape is None else produced_by(reshape.inputs[0], "Expand")
    unsqueeze = None if expand is None else produced_by(expand.inputs[0], "Unsqueeze")
    x = None if unsqueeze is None else unsqueeze.inputs[0]
    if expand is None or unsqueeze is None or x is None:
        return value
    if (sizes.rank(x), sizes.rank(value)) != (4, 4):
        return value
    before, repeated, after = sizes.shape(x), sizes.shape(expand.outputs[0]), sizes.shape(value)
    inserted = sizes.shape(unsqueeze.outputs[0])
    if before is None or repeated is None or after is None or inserted is None:
        return value
    if len(repeated) != 5 or inserted != (*before[:2], 1, *before[2:]):
        return value
    groups, count = before[1], repeated[2]
    if not isinstance(groups, int) or not isinstance(count, int):
        return value
    target = sizes.content(expand.inputs[1])
    wanted = (None,) * 5 if target is None or len(target.entries) != 5 else target.entries
    kept = all(
        sizes.agree(expand.outputs[0], there, x, here) or alike(wanted[there], before[here])
        for here, there in ((0, 0), (1, 1), (2, 3), (3, 4))
    )
    if not kept or after[1] != groups * count or not isinstance(after[3], int):
        return value
    if after[3] != before[3]:
        return value
    return x if sizes.agree(value, 0, x, 0) or sizes.agree(value, 2, x, 2) else value


def length_of(to: Builder, sizes: Sizes, value: ir.Value, axis: int) -> ir.Value:
    """The size of an axis as a tensor of one element.

    It is read where it comes from, so that all layers of a model read the same.
    """
    known = sizes.shape(value)
    entry = Dim(value, axis) if known is None else known[axis]
    if isinstance(entry, int):
        return to.constant(np.array([entry]), f"size_{entry}")
    # A sum is read as a whole; and what was replaced meanwhile or is not of this graph is not.
    if not isinstance(entry, Dim) or entry.value.graph is not value.graph:
        entry = Dim(value, axis)
    return to.op("Shape", entry.value, start=entry.axis, end=entry.axis + 1)
