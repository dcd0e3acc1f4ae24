"""How the sizes of an output follow from those of the inputs, for the common operators.

A rule gives one size for each axis, ``None`` where no more is known than the output says itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import cast

import onnx_ir as ir

from infopt.ir.queries import attribute
from infopt.passes.editing import operators
from infopt.passes.matching import input_at
from infopt.passes.sizes.known import Entry, Known, Size, minus, plus

Shape = Sequence[Size | None] | None

LONGEST = 2**31 - 2
"""An end of a Slice behind this is the end of the axis."""


def _same(known: Known, node: ir.Node) -> Shape:
    return known.shape(input_at(node, 0))


def _first_axis(known: Known, node: ir.Node) -> Shape:
    """Batched operators: the first axis is that of the input."""
    shape, own = known.shape(input_at(node, 0)), node.outputs[0].shape
    return None if not shape or own is None else [shape[0], *[None] * (len(own) - 1)]


def broadcast(shapes: Sequence[Sequence[Size | None]]) -> list[Size | None]:
    """The shape that these are broadcast to; None for a size that is one of several."""
    rank = max(map(len, shapes), default=0)
    result: list[Size | None] = []
    for axis in range(-rank, 0):
        sizes = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        numbers = [size for size in sizes if isinstance(size, int)]
        if numbers:
            result.append(numbers[0])
        else:
            result.append(1 if not sizes else sizes.pop() if len(sizes) == 1 else None)
    return result


def _broadcast(known: Known, node: ir.Node) -> Shape:
    shapes = [known.shape(value) for value in node.inputs]
    return (
        broadcast([shape for shape in shapes if shape is not None])
        if all(shape is not None for shape in shapes)
        else None
    )


def _expand(known: Known, node: ir.Node) -> Shape:
    shape, target = known.shape(input_at(node, 0)), known.content(input_at(node, 1))
    return None if shape is None or target is None else broadcast([shape, target.entries])


def _filled_shape(known: Known, node: ir.Node) -> Shape:
    target = known.content(input_at(node, 0))
    return None if target is None else target.entries


def _reshape(known: Known, node: ir.Node) -> Shape:
    shape, target = known.shape(input_at(node, 0)), known.content(input_at(node, 1))
    if shape is None or target is None:
        return None
    result: list[Size | None] = []
    for axis, entry in enumerate(target.entries):
        if entry == 0 and not attribute(node, "allowzero", 0):
            result.append(shape[axis] if axis < len(shape) else None)
        else:
            # Where this size is 0 at run time, Reshape copies the one of its input instead. The
            # tensor is empty then; only what is said of the sizes of empty tensors is off.
            result.append(None if entry == -1 else entry)
    if target.entries.count(-1) == 1 and result.count(None) == 1:
        result[result.index(None)] = _rest(shape, [size for size in result if size is not None])
    return result


def _rest(whole: Sequence[Size], parts: list[Size]) -> Size | None:
    """The size that times ``parts`` makes as many elements as ``whole`` has, if it is known."""
    left = list(whole)
    for size in [size for size in parts if not isinstance(size, int)]:
        if size not in left:
            return None
        left.remove(size)
    number = math.prod(size for size in left if isinstance(size, int))
    divisor = math.prod(size for size in parts if isinstance(size, int))
    others = [size for size in left if not isinstance(size, int)]
    if divisor == 0 or number % divisor:
        return None
    if others:
        return others[0] if len(others) == 1 and number == divisor else None
    return number // divisor


def _transpose(known: Known, node: ir.Node) -> Shape:
    shape = known.shape(input_at(node, 0))
    if shape is None:
        return None
    perm = attribute(node, "perm", None) or range(len(shape))[::-1]
    return [shape[axis] for axis in perm]


def _axes(known: Known, node: ir.Node, rank: int) -> list[int] | None:
    """The axes of a Squeeze or Unsqueeze, not negative."""
    content = known.content(input_at(node, 1))
    if content is None or not content.known:
        return None
    return [axis % rank for axis in content.entries if isinstance(axis, int)]


def _unsqueeze(known: Known, node: ir.Node) -> Shape:
    shape, content = known.shape(input_at(node, 0)), known.content(input_at(node, 1))
    if shape is None or content is None:
        return None
    rank = len(shape) + len(content.entries)
    axes = _axes(known, node, rank)
    if axes is None:
        return None
    rest = iter(shape)
    return [1 if axis in axes else next(rest) for axis in range(rank)]


def _squeeze(known: Known, node: ir.Node) -> Shape:
    shape = known.shape(input_at(node, 0))
    axes = None if shape is None else _axes(known, node, len(shape))
    if shape is None or axes is None:
        return None
    return [size for axis, size in enumerate(shape) if axis not in axes]


def _gather_shape(known: Known, node: ir.Node) -> Shape:
    data, indices = known.shape(input_at(node, 0)), known.shape(input_at(node, 1))
    if data is None or indices is None:
        return None
    axis = attribute(node, "axis", 0) % len(data)
    return [*data[:axis], *indices, *data[axis + 1 :]]


def _gathered_elements(known: Known, node: ir.Node) -> Shape:
    return known.shape(input_at(node, 1))


def _concat_shape(known: Known, node: ir.Node) -> Shape:
    shape = known.shape(input_at(node, 0))
    if shape is None:
        return None
    joined = attribute(node, "axis", 0) % len(shape)
    lengths = [(known.shape(value) or ())[joined : joined + 1] for value in node.inputs]
    total = functools.reduce(plus, [length[0] if length else None for length in lengths])
    return [total if axis == joined else size for axis, size in enumerate(shape)]


def _tile(known: Known, node: ir.Node) -> Shape:
    shape, times = known.shape(input_at(node, 0)), known.content(input_at(node, 1))
    if shape is None or times is None or len(times.entries) != len(shape):
        return None
    return [
        size
        if count == 1
        else size * count
        if isinstance(size, int) and isinstance(count, int)
        else None
        for size, count in zip(shape, times.entries, strict=True)
    ]


def _slice_shape(known: Known, node: ir.Node) -> Shape:
    shape = known.shape(input_at(node, 0))
    bounds = [known.content(input_at(node, index)) for index in (1, 2, 3, 4)]
    starts, ends, axes, steps = (None if b is None else b.entries for b in bounds)
    if shape is None or axes is None or None in axes:
        return None
    if starts is None or ends is None or (steps is None and input_at(node, 4) is not None):
        starts = ends = (None,) * len(axes)
    result: list[Size | None] = list(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps or (1,) * len(axes), strict=True):
        assert isinstance(axis, int)
        whole = shape[axis]
        if all(isinstance(bound, int) for bound in (start, end, step, whole)):
            result[axis] = len(range(*slice(start, end, step).indices(cast(int, whole))))
        else:
            result[axis] = _between(start, end, whole) if step == 1 else None
    return result


def _between(start: Entry, end: Entry, whole: Size) -> Size | None:
    """The size of a part of an axis."""
    if any(isinstance(bound, int) and bound < 0 for bound in (start, end)):
        return None
    if isinstance(end, int) and end > LONGEST:
        end = whole
    # Only a part that is surely there is as long as its bounds say.
    return minus(end, start) if minus(whole, end) is not None else None


def _range(known: Known, node: ir.Node) -> Shape:
    start, limit, delta = (known.content(input_at(node, index)) for index in range(3))
    if start is None or limit is None or delta is None:
        return None
    # What is left of the limit is a size; a number may be one that counts down.
    length = minus(limit.entries[0], start.entries[0]) if delta.entries == (1,) else None
    return [max(length, 0) if isinstance(length, int) else length]


def split_shapes(known: Known, node: ir.Node) -> list[list[Size | None]]:
    """The sizes of every output of a Split; of none where they are not known."""
    shape, given = known.shape(input_at(node, 0)), known.content(input_at(node, 1))
    if shape is None:
        return []
    axis, count = attribute(node, "axis", 0) % len(shape), len(node.outputs)
    whole = shape[axis]
    lengths: Sequence[Size | None] = (None,) * count
    if given is not None and len(given.entries) == count:
        lengths = given.entries
    elif input_at(node, 1) is None and isinstance(whole, int) and whole % count == 0:
        lengths = (whole // count,) * count
    return [[*shape[:axis], length, *shape[axis + 1 :]] for length in lengths]


def _matmul(known: Known, node: ir.Node) -> Shape:
    a, b = known.shape(input_at(node, 0)), known.shape(input_at(node, 1))
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return None
    return [*broadcast([a[:-2], b[:-2]]), a[-2], b[-1]]


def _reduce(known: Known, node: ir.Node) -> Shape:
    shape, axes = known.shape(input_at(node, 0)), known.content(input_at(node, 1))
    if shape is None or axes is None or not axes.known or not axes.entries:
        return None
    cut = {axis % len(shape) for axis in axes.entries if isinstance(axis, int)}
    if attribute(node, "keepdims", 1):
        return [1 if axis in cut else size for axis, size in enumerate(shape)]
    return [size for axis, size in enumerate(shape) if axis not in cut]


def _attention(known: Known, node: ir.Node) -> Shape:
    q, v = known.shape(input_at(node, 0)), known.shape(input_at(node, 2))
    if q is None or v is None or len(q) != 4:
        return None if q is None else [*q[:2], None]
    return [*q[:3], v[3]]


def _gemm(known: Known, node: ir.Node) -> Shape:
    a, b = known.shape(input_at(node, 0)), known.shape(input_at(node, 1))
    if a is None or b is None:
        return None
    return [
        a[1 if attribute(node, "transA", 0) else 0],
        b[0 if attribute(node, "transB", 0) else 1],
    ]


SHAPES: dict[str, Callable[[Known, ir.Node], Shape]] = {
    **dict.fromkeys(
        operators("""
        Abs BatchNormalization BitwiseNot Cast CastLike Ceil Celu Clip Cos CumSum Dropout Elu Erf
        Exp Floor Gelu GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization IsInf
        IsNaN LRN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization Mish Neg Not
        QuantizeLinear DequantizeLinear RMSNormalization Reciprocal Relu RotaryEmbedding Round
        ScatterElements ScatterND Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Swish Tan
        Tanh ThresholdedRelu Trilu
        """),
        _same,
    ),
    **dict.fromkeys(
        operators("""
        Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual
        Max Mean Min Mod Mul Or Pow Sub Sum Where Xor
        """),
        _broadcast,
    ),
    **dict.fromkeys(
        operators("AveragePool Conv GlobalAveragePool GlobalMaxPool MaxPool"), _first_axis
    ),
    **dict.fromkeys(operators("ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"), _reduce),
    "Attention": _attention,
    "Concat": _concat_shape,
    "ConstantOfShape": _filled_shape,
    "Expand": _expand,
    "Gather": _gather_shape,
    "Gemm": _gemm,
    "GatherElements": _gathered_elements,
    "MatMul": _matmul,
    "Range": _range,
    "Reshape": _reshape,
    "Slice": _slice_shape,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
