"""fuse-rotary-embedding: rotary position embeddings as one operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._heads import length_of
from infopt.passes.matching import (
    either_way,
    input_at,
    is_read_outside,
    produced_by,
    with_scalar,
)
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "rotary-embedding"
Write = Callable[[Builder], ir.Value]


@dataclasses.dataclass(frozen=True)
class FuseRotaryEmbedding(Fusion):
    """``x * cos + rotate_half(x) * sin`` becomes ``RotaryEmbedding(x, cos, sin)``.

    ``x`` has shape (batch, heads, sequence, size of a head); ``rotate_half`` puts the negated
    second half of the last axis before the first. Sines and cosines whose halves are equal,
    because the angles were concatenated with themselves or because a table says so, are kept
    once, one row for each sequence of the batch. Where only the first part of each head is
    rotated and the rest concatenated again, the operator does that, too (Su et al.,
    arXiv:2104.09864).
    """

    name: ClassVar[str] = "fuse-rotary-embedding"
    anchors: ClassVar[frozenset[str]] = frozenset({"Add", "Concat"})
    min_opset: ClassVar[int] = 23

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        if node.op_type == "Concat":
            return _partial(node, sizes)
        for straight, turned in either_way(node):
            left, right = produced_by(straight, "Mul"), produced_by(turned, "Mul")
            if left is None or right is None:
                continue
            for half, sin in either_way(right):
                x = _rotated(half, sizes)
                if x is None:
                    continue
                for same, cos in either_way(left):
                    if same is x:
                        return _rotary(node, x, cos, sin, sizes)
        return None


def _rotary(node: ir.Node, x: ir.Value, cos: ir.Value, sin: ir.Value, sizes: Sizes) -> Answer:
    if sizes.rank(x) != 4:
        return Miss(RULE, f"it has rank {sizes.rank(x)}, not 4 with an axis for the heads")
    for value in (cos, sin):
        if sizes.number(value, -1) != sizes.number(x, -1):
            return Miss(RULE, "its sines or cosines are broadcast along the heads' own axis")
        if sizes.number(value, -2) == 1 and sizes.number(x, 2) != 1:
            return Miss(RULE, "its sines or cosines are those of one position")
    caches = [_cache(value, x, sizes) for value in (cos, sin)]
    found = [cache for cache in caches if not isinstance(cache, str)]
    if len(found) < 2:
        return Miss(RULE, next(cache for cache in caches if isinstance(cache, str)))

    def build(to: Builder) -> ir.Value:
        rows = [_batched(to, cache(to), x, sizes) for cache in found]
        return to.op("RotaryEmbedding", x, *rows, like=node.outputs[0])

    return Found(RULE, build)


def _rotated(value: ir.Value, sizes: Sizes) -> ir.Value | None:
    """``x`` if ``value`` is its second half, negated, before its first half."""
    concat = produced_by(value, "Concat")
    if concat is None or len(concat.inputs) != 2 or not _on_last_axis(concat, sizes):
        return None
    negated = produced_by(concat.inputs[0], "Neg")
    if negated is None:
        return None
    second, first = _part(negated.inputs[0], sizes), _part(concat.inputs[1], sizes)
    if second is None or first is None or first[0] is not second[0]:
        return None
    length = sizes.number(first[0], -1)
    if length is None or length % 2:
        return None
    halves = (first[1:], second[1:])
    return first[0] if halves == ((0, length // 2), (length // 2, length)) else None


def _part(value: ir.Value | None, sizes: Sizes) -> tuple[ir.Value, int, int] | None:
    """``x``, start and end if ``value`` is that part of the last axis of ``x``."""
    node = produced_by(value, "Slice", "Split")
    x = None if node is None else node.inputs[0]
    length = sizes.number(x, -1)
    if node is None or x is None or length is None:
        return None
    if node.op_type == "Split":
        return _piece(node, value, x, length, sizes)
    bounds = [sizes.content(input_at(node, index)) for index in (1, 2, 3)]
    steps = sizes.content(input_at(node, 4))
    if any(bound is None or len(bound.entries) != 1 or not bound.known for bound in bounds):
        return None
    if steps is None if input_at(node, 4) is not None else False:
        return None
    if steps is not None and steps.entries != (1,):
        return None
    start, end, axis = (int(str(bound.entries[0])) for bound in bounds if bound is not None)
    if axis not in (-1, (sizes.rank(x) or 0) - 1):
        return None
    start, end, _ = slice(start, end).indices(length)
    return x, start, end


def _piece(
    node: ir.Node, value: ir.Value | None, x: ir.Value, length: int, sizes: Sizes
) -> tuple[ir.Value, int, int] | None:
    count = len(node.outputs)
    if not _on_last_axis(node, sizes):
        return None
    given = sizes.content(input_at(node, 1))
    if given is not None and given.known:
        lengths = [int(str(entry)) for entry in given.entries]
    elif input_at(node, 1) is None and length % count == 0:
        lengths = [length // count] * count
    else:
        return None
    index = next(i for i, output in enumerate(node.outputs) if output is value)
    start = sum(lengths[:index])
    return x, start, start + lengths[index]


def _on_last_axis(node: ir.Node, sizes: Sizes) -> bool:
    axis = queries.attribute(node, "axis", 0)
    return axis == -1 or axis == (sizes.rank(node.inputs[0]) or 0) - 1


def _cache(value: ir.Value, x: ir.Value, sizes: Sizes) -> Write | str:
    """Writes the sines or cosines without an axis for the heads, one half; or why not."""
    unsqueeze = produced_by(value, "Unsqueeze")
    count = sizes.rank(value)
    if unsqueeze is not None and count == 4 and unsqueeze.inputs[0] is not None:
        axes = sizes.content(input_at(unsqueeze, 1))
        inner = unsqueeze.inputs[0]
        if axes is not None and axes.entries in ((1,), (-3,)) and sizes.rank(inner) == 3:
            return _half(inner, sizes) or "the halves of its sines or cosines are not the same"
    if count is None or not 2 <= count <= 4:
        return f"its sines or cosines have rank {count}"
    if count >= 3 and sizes.number(value, -3) != 1:
        return "its sines or cosines are not the same for all heads"
    half = _half(value, sizes)
    if half is None:
        return "the halves of its sines or cosines are not the same"
    if count == 3:
        return half
    op_type, axis = ("Unsqueeze", 0) if count == 2 else ("Squeeze", 1)
    return lambda to: to.op(op_type, half(to), to.constant(np.array([axis]), "axis"))


def _batched(to: Builder, rows: ir.Value, x: ir.Value, sizes: Sizes) -> ir.Value:
    """``rows`` of shape (batch or 1, sequence, half), for every sequence of the batch."""
    if sizes.shape(rows) is not None and sizes.agree(rows, 0, x, 0):
        return rows
    batch = length_of(to, sizes, x, 0)
    target = to.op("Concat", batch, to.constant(np.array([1, 1]), "ones"), axis=0)
    return to.op("Expand", rows, target)


def _half(value: ir.Value, sizes: Sizes) -> Write | None:
    """Writes the first half of the last axis, if the second half is the same."""
    tensor = queries.constant_tensor(value)
    if tensor is not None:
        return _half_of_table(value, tensor)
    node = value.producer()
    if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    if node.op_type == "Concat":
        twice = len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
        first = node.inputs[0]
        return (lambda _: first) if twice and _on_last_axis(node, sizes) else None
    scaled = with_scalar(node) if node.op_type in ("Mul", "Div") else None
    source = node.inputs[0] if scaled is None else scaled[0]
    if node.op_type in ("Mul", "Div") and scaled is None:
        return None
    if scaled is not None and sizes.rank(source) != sizes.rank(value):
        return None
    if node.op_type not in ("Cos", "Sin", "Cast", "Mul", "Div", "Gather", "Unsqueeze", "Slice"):
        return None
    if not _keeps_last_axis(node, sizes):
        return None
    inner = _half(source, sizes)
    if inner is None:
        return None
    attributes = {name: attr.value for name, attr in node.attributes.items()}

    def write(to: Builder) -> ir.Value:
        inputs = [inner(to) if other is source else other for other in node.inputs]
        return to.op(node.op_type, *inputs, **attributes)

    return write


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


def _half_of_table(value: ir.Value, tensor: ir.TensorProtocol) -> Write | None:
    shape = queries.static_shape(value)
    if not shape or shape[-1] % 2:
        return None
    array = tensor.numpy()
    first, second = np.split(array, 2, axis=-1)
    if not np.array_equal(first, second):
        return None
    return lambda to: to.constant(np.ascontiguousarray(first), "half")


def _partial(node: ir.Node, sizes: Sizes) -> Answer:
    """The first part of each head rotated, and the rest as it was."""
    rotary = produced_by(node.inputs[0], "RotaryEmbedding")
    if rotary is None or len(node.inputs) != 2 or not _on_last_axis(node, sizes):
        return None
    first, rest = _part(rotary.inputs[0], sizes), _part(node.inputs[1], sizes)
    if first is None or rest is None or first[0] is not rest[0]:
        return None
    x, heads, length = first[0], sizes.number(first[0], 1), sizes.number(first[0], -1)
    if (first[1], first[2], rest[2]) != (0, rest[1], length):
        return None
    if heads is None:
        return Miss(RULE, "the number of heads is known only at run time")
    if is_read_outside(rotary.outputs[0], [node]):
        return Miss(RULE, "the rotated part is read elsewhere, too")
    _, *caches = rotary.inputs
    return Found(
        RULE,
        lambda to: to.op(
            "RotaryEmbedding",
            x,
            *caches,
            like=node.outputs[0],
            num_heads=heads,
            rotary_embedding_dim=first[2],
        ),
    )
