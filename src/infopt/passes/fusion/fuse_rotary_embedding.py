"""fuse-rotary-embedding: rotary position embeddings as one operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._angles import Layout, appended, batched, flattened, on_last_axis, rows
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._heads import parted
from infopt.passes.matching import either_way, input_at, is_read_outside, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "rotary-embedding"


@dataclasses.dataclass(frozen=True)
class FuseRotaryEmbedding(Fusion):
    """``x * cos + rotate_half(x) * sin`` becomes ``RotaryEmbedding(x, cos, sin)``.

    ``x`` has shape (batch, heads, sequence, size of a head); ``rotate_half`` puts the negated
    second half of the last axis before the first, or, interleaved, each negated odd element
    before the even one. Where ``x`` is (batch, sequence, heads, size of a head), its heads are
    made one axis for the operator. Sines and cosines of which each stands there twice, because
    the angles were concatenated with themselves or because a table says so, are kept once, one
    row for each sequence of the batch. Where only the first part of each head is rotated and the
    rest concatenated again, the operator does that, too (Su et al., arXiv:2104.09864).
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
                found = _half_turned(half, sizes) or _neighbours_turned(half, sizes)
                if found is None:
                    continue
                x, interleaved = found
                for same, cos in either_way(left):
                    if same is x:
                        return _rotary(node, x, cos, sin, interleaved, sizes)
        return None


def _rotary(
    node: ir.Node, x: ir.Value, cos: ir.Value, sin: ir.Value, interleaved: bool, sizes: Sizes
) -> Answer:
    if sizes.rank(x) != 4:
        return Miss(RULE, f"it has rank {sizes.rank(x)}, not 4 with an axis for the heads")
    layout = Layout(_heads_axis(cos, x, sizes), interleaved)
    for value in (cos, sin):
        if sizes.number(value, -1) != sizes.number(x, -1):
            return Miss(RULE, "its sines or cosines are broadcast along the heads' own axis")
        length = -2 if layout.heads == 1 else -3
        if sizes.number(value, length) == 1 and sizes.number(x, length) != 1:
            return Miss(RULE, "its sines or cosines are those of one position")
    if layout.heads == 2 and None in (sizes.number(x, 2), sizes.number(x, 3)):
        return Miss(RULE, "the number of heads is known only at run time")
    tables = [rows(value, layout, sizes) for value in (cos, sin)]
    found = [table for table in tables if not isinstance(table, str)]
    if len(found) < 2:
        return Miss(RULE, next(table for table in tables if isinstance(table, str)))

    def build(to: Builder) -> ir.Value:
        caches = [batched(to, table(to), x, sizes) for table in found]
        return _written(to, node.outputs[0], x, caches, layout, sizes)

    return Found(RULE, build)


def _heads_axis(cos: ir.Value, x: ir.Value, sizes: Sizes) -> int:
    """The axis of ``x`` along which its cosines are all the same."""
    before = (sizes.rank(cos) or 0) >= 3 and sizes.number(cos, -3) != 1
    return 2 if before and sizes.number(cos, -2) == 1 and sizes.number(x, 1) != 1 else 1


def _written(
    to: Builder,
    like: ir.Value,
    x: ir.Value,
    caches: Sequence[ir.Value | None],
    layout: Layout,
    sizes: Sizes,
    first: int | None = None,
) -> ir.Value:
    """The operator, for the first elements of each head or for all."""
    heads, size = sizes.number(x, layout.heads), sizes.number(x, 3)
    whole, count = x, None if first is None else heads
    if layout.heads == 2:
        assert heads is not None
        assert size is not None
        split, count = parted(x, sizes), heads
        if split is None:
            whole = to.op("Reshape", x, to.constant(np.array([0, 0, heads * size]), "whole"))
        else:
            whole, _ = split
    rotated = to.op(
        "RotaryEmbedding",
        whole,
        *caches,
        like=like if whole is x else whole,
        num_heads=count,
        interleaved=int(layout.interleaved) or None,
        rotary_embedding_dim=first,
    )
    if layout.heads == 1:
        return rotated
    return to.op("Reshape", rotated, to.constant(np.array([0, 0, heads, size]), "heads"), like=like)


def _half_turned(value: ir.Value, sizes: Sizes) -> tuple[ir.Value, bool] | None:
    """``x`` if ``value`` is its second half, negated, before its first half."""
    concat = produced_by(value, "Concat")
    if concat is None or len(concat.inputs) != 2 or not on_last_axis(concat, sizes):
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
    return (first[0], False) if halves == ((0, length // 2), (length // 2, length)) else None


def _neighbours_turned(value: ir.Value, sizes: Sizes) -> tuple[ir.Value, bool] | None:
    """``x`` if ``value`` is ``x`` with each odd element, negated, before the even one."""
    concat = produced_by(flattened(value, sizes), "Concat")
    if concat is None or len(concat.inputs) != 2 or not on_last_axis(concat, sizes):
        return None
    left, right = (appended(value, sizes) for value in concat.inputs)
    if left is None or right is None or left[1] or right[1]:
        return None
    negated = produced_by(left[0], "Neg")
    odd = None if negated is None else _every_second(negated.inputs[0], 1, sizes)
    return None if odd is None or odd is not _every_second(right[0], 0, sizes) else (odd, True)


def _every_second(value: ir.Value | None, start: int, sizes: Sizes) -> ir.Value | None:
    """``x`` if ``value`` is every second element of its last axis, of which there are pairs."""
    found = _bounds(value, sizes)
    length = None if found is None else sizes.number(found[0], -1)
    if found is None or length is None or length % 2:
        return None
    return found[0] if found[1:] == (start, length, 2) else None


def _bounds(value: ir.Value | None, sizes: Sizes) -> tuple[ir.Value, int, int, int] | None:
    """``x``, start, end and step if ``value`` is a Slice of the last axis of ``x``."""
    node = produced_by(value, "Slice")
    x = None if node is None else node.inputs[0]
    length = sizes.number(x, -1)
    if node is None or x is None or length is None:
        return None
    numbers = [1 if index == 4 and input_at(node, 4) is None else None for index in range(1, 5)]
    for place, index in enumerate(range(1, 5)):
        content = sizes.content(input_at(node, index))
        if content is not None and len(content.entries) == 1 and content.known:
            numbers[place] = int(str(content.entries[0]))
    start, end, axis, step = numbers
    if start is None or end is None or step is None or step < 1:
        return None
    if axis is None or axis not in (-1, (sizes.rank(x) or 0) - 1):
        return None
    start, end, _ = slice(start, end).indices(length)
    return x, start, end, step


def _part(value: ir.Value | None, sizes: Sizes) -> tuple[ir.Value, int, int] | None:
    """``x``, start and end if ``value`` is that part of the last axis of ``x``."""
    node = produced_by(value, "Split")
    if node is None:
        found = _bounds(value, sizes)
        return found[:3] if found is not None and found[3] == 1 else None
    x, count = node.inputs[0], len(node.outputs)
    length = sizes.number(x, -1)
    if x is None or length is None or not on_last_axis(node, sizes):
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


def _partial(node: ir.Node, sizes: Sizes) -> Answer:
    """The first part of each head rotated, and the rest as it was."""
    chain = _rotation(node.inputs[0], sizes)
    if chain is None or len(node.inputs) != 2 or not on_last_axis(node, sizes):
        return None
    first, rest = _part(chain[0].inputs[0], sizes), _part(node.inputs[1], sizes)
    if first is None or rest is None or first[0] is not rest[0]:
        return None
    x, heads = first[0], 1 if len(chain) == 1 else 2
    if (first[1], first[2], rest[2]) != (0, rest[1], sizes.number(x, -1)):
        return None
    if sizes.number(x, heads) is None:
        return Miss(RULE, "the number of heads is known only at run time")
    if any(is_read_outside(step.outputs[0], [node, *chain]) for step in chain):
        return Miss(RULE, "the rotated part is read elsewhere, too")
    rotary = chain[len(chain) // 2]
    _, *caches = rotary.inputs
    layout = Layout(heads, bool(queries.attribute(rotary, "interleaved", 0)))
    return Found(RULE, lambda to: _written(to, node.outputs[0], x, caches, layout, sizes, first[2]))


def _rotation(value: ir.Value | None, sizes: Sizes) -> tuple[ir.Node, ...] | None:
    """The RotaryEmbedding that computes ``value``; one of rank 3 with a Reshape on each side."""
    behind = produced_by(value, "Reshape")
    rotary = produced_by(value if behind is None else behind.inputs[0], "RotaryEmbedding")
    if rotary is None or "rotary_embedding_dim" in rotary.attributes:
        return None
    if behind is None:
        return (rotary,)
    before = produced_by(rotary.inputs[0], "Reshape")
    if before is None or sizes.rank(rotary.inputs[0]) != 3:
        return None
    return (before, rotary, behind)
