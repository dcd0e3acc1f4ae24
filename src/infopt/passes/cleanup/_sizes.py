"""What is known of shapes and of small integer tensors before the model runs.

A dimension is a number, or a :class:`Dim`: "the size of this axis of this value". Two
dimensions are the same only if they come from the same place; names are not believed. ONNX
says that inputs which share a dimension's name share its size, but no runtime enforces that,
so a model that is fed ``batch`` 1 here and 3 there broadcasts, and must go on doing so.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Sequence

import onnx_ir as ir

from infopt.ir import queries
from infopt.ir.queries import attribute
from infopt.passes.editing import operators

MAX_ENTRIES = 64
"""Tensors with more integers than this are no shapes."""


@dataclasses.dataclass(frozen=True)
class Dim:
    """The size of axis ``axis`` of ``value``: some number that is not negative."""

    value: ir.Value
    axis: int


Size = int | Dim
Entry = int | Dim | None
"""An element of an integer tensor: a number, a size, or unknown."""


@dataclasses.dataclass(frozen=True)
class Content:
    """The elements of an integer or boolean tensor of rank 0 or 1."""

    entries: tuple[Entry, ...]
    rank: int

    @property
    def known(self) -> bool:
        """Whether every element is a number."""
        return all(isinstance(entry, int) for entry in self.entries)


class Sizes:
    """The sizes and contents of the values of a graph; :meth:`visit` its nodes in order."""

    def __init__(self) -> None:
        self._shapes: dict[ir.Value, tuple[Size, ...]] = {}
        self._contents: dict[ir.Value, Content | None] = {}

    def shape(self, value: ir.Value | None) -> tuple[Size, ...] | None:
        """The size of each axis; ``None`` where not even the rank is known."""
        if value is None:
            return None
        if value not in self._shapes:
            if value.shape is None:
                return None
            self._shapes[value] = tuple(_own(value, axis) for axis in range(len(value.shape)))
        return self._shapes[value]

    def content(self, value: ir.Value | None) -> Content | None:
        """What is known of the elements of a small integer tensor."""
        if value is None:
            return None
        if value not in self._contents:
            self._contents[value] = _constant_content(value)
        return self._contents[value]

    def visit(self, node: ir.Node) -> None:
        """Learn what can be learnt of the outputs of ``node``."""
        if node.domain != "" or any(attr.is_ref() for attr in node.attributes.values()):
            return
        output = node.outputs[0]
        shape_rule = SHAPES.get(node.op_type)
        if shape_rule is not None:
            self._learn_shape(output, shape_rule(self, node))
        content_rule = CONTENTS.get(node.op_type)
        if content_rule is not None and output.dtype in INTEGRAL:
            content = content_rule(self, node)
            if content is not None and len(content.entries) <= MAX_ENTRIES:
                self._contents[output] = content

    def _learn_shape(self, value: ir.Value, found: Sequence[Size | None] | None) -> None:
        if found is None or (value.shape is not None and len(value.shape) != len(found)):
            return
        self._shapes[value] = tuple(
            own if isinstance(own, int) or size is None else size
            for own, size in zip(
                (_own(value, axis) for axis in range(len(found))), found, strict=True
            )
        )


INTEGRAL = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


def _own(value: ir.Value, axis: int) -> Size:
    dim = None if value.shape is None else value.shape[axis]
    return dim if isinstance(dim, int) else Dim(value, axis)


def _constant_content(value: ir.Value) -> Content | None:
    tensor = queries.constant_tensor(value)
    if tensor is None or tensor.dtype not in INTEGRAL:
        return None
    if len(tensor.shape) > 1 or tensor.size > MAX_ENTRIES:
        return None
    return Content(tuple(int(x) for x in tensor.numpy().ravel()), len(tensor.shape))


# Rules for shapes: one size for each axis, None where the output's own will do.

Shape = Sequence[Size | None] | None


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _same(sizes: Sizes, node: ir.Node) -> Shape:
    return sizes.shape(_input(node, 0))


def _first_axis(sizes: Sizes, node: ir.Node) -> Shape:
    """Batched operators: the first axis is that of the input."""
    shape, own = sizes.shape(_input(node, 0)), node.outputs[0].shape
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


def _broadcast(sizes: Sizes, node: ir.Node) -> Shape:
    shapes = [sizes.shape(value) for value in node.inputs]
    return (
        broadcast([shape for shape in shapes if shape is not None])
        if all(shape is not None for shape in shapes)
        else None
    )


def _expand(sizes: Sizes, node: ir.Node) -> Shape:
    shape, target = sizes.shape(_input(node, 0)), sizes.content(_input(node, 1))
    return None if shape is None or target is None else broadcast([shape, target.entries])


def _reshape(sizes: Sizes, node: ir.Node) -> Shape:
    shape, target = sizes.shape(_input(node, 0)), sizes.content(_input(node, 1))
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
    return result


def _transpose(sizes: Sizes, node: ir.Node) -> Shape:
    shape = sizes.shape(_input(node, 0))
    if shape is None:
        return None
    perm = attribute(node, "perm", None) or range(len(shape))[::-1]
    return [shape[axis] for axis in perm]


def _axes(sizes: Sizes, node: ir.Node, rank: int) -> list[int] | None:
    """The axes of a Squeeze or Unsqueeze, not negative."""
    content = sizes.content(_input(node, 1))
    if content is None or not content.known:
        return None
    return [axis % rank for axis in content.entries if isinstance(axis, int)]


def _unsqueeze(sizes: Sizes, node: ir.Node) -> Shape:
    shape, content = sizes.shape(_input(node, 0)), sizes.content(_input(node, 1))
    if shape is None or content is None:
        return None
    rank = len(shape) + len(content.entries)
    axes = _axes(sizes, node, rank)
    if axes is None:
        return None
    rest = iter(shape)
    return [1 if axis in axes else next(rest) for axis in range(rank)]


def _squeeze(sizes: Sizes, node: ir.Node) -> Shape:
    shape = sizes.shape(_input(node, 0))
    axes = None if shape is None else _axes(sizes, node, len(shape))
    if shape is None or axes is None:
        return None
    return [size for axis, size in enumerate(shape) if axis not in axes]


def _gather_shape(sizes: Sizes, node: ir.Node) -> Shape:
    data, indices = sizes.shape(_input(node, 0)), sizes.shape(_input(node, 1))
    if data is None or indices is None:
        return None
    axis = attribute(node, "axis", 0) % len(data)
    return [*data[:axis], *indices, *data[axis + 1 :]]


def _concat_shape(sizes: Sizes, node: ir.Node) -> Shape:
    shape = sizes.shape(_input(node, 0))
    if shape is None:
        return None
    joined = attribute(node, "axis", 0) % len(shape)
    return [None if axis == joined else size for axis, size in enumerate(shape)]


def _slice_shape(sizes: Sizes, node: ir.Node) -> Shape:
    shape, axes = sizes.shape(_input(node, 0)), sizes.content(_input(node, 3))
    if shape is None or axes is None or not axes.known:
        return None
    cut = {axis % len(shape) for axis in axes.entries if isinstance(axis, int)}
    return [None if axis in cut else size for axis, size in enumerate(shape)]


def _matmul(sizes: Sizes, node: ir.Node) -> Shape:
    a, b = sizes.shape(_input(node, 0)), sizes.shape(_input(node, 1))
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return None
    return [*broadcast([a[:-2], b[:-2]]), a[-2], b[-1]]


def _reduce(sizes: Sizes, node: ir.Node) -> Shape:
    shape, axes = sizes.shape(_input(node, 0)), sizes.content(_input(node, 1))
    if shape is None or axes is None or not axes.known or not axes.entries:
        return None
    cut = {axis % len(shape) for axis in axes.entries if isinstance(axis, int)}
    if attribute(node, "keepdims", 1):
        return [1 if axis in cut else size for axis, size in enumerate(shape)]
    return [size for axis, size in enumerate(shape) if axis not in cut]


SHAPES: dict[str, Callable[[Sizes, ir.Node], Shape]] = {
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
    "Concat": _concat_shape,
    "Expand": _expand,
    "Gather": _gather_shape,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Slice": _slice_shape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


# Rules for contents.


def _shape_of(sizes: Sizes, node: ir.Node) -> Content | None:
    shape = sizes.shape(_input(node, 0))
    if shape is None:
        return None
    start, end = attribute(node, "start", 0), attribute(node, "end", len(shape))
    return Content(tuple(shape[start:end]), 1)


def _size_of(sizes: Sizes, node: ir.Node) -> Content | None:
    shape = sizes.shape(_input(node, 0))
    return None if shape is None else Content((_product(shape),), 0)


def _product(entries: Sequence[Entry]) -> Entry:
    numbers = [entry for entry in entries if isinstance(entry, int)]
    others = [entry for entry in entries if not isinstance(entry, int)]
    number = math.prod(numbers)
    if not others or number == 0:
        return number
    return others[0] if number == 1 and len(others) == 1 else None


def _gather(sizes: Sizes, node: ir.Node) -> Content | None:
    data, indices = sizes.content(_input(node, 0)), sizes.content(_input(node, 1))
    if data is None or indices is None or data.rank != 1 or not indices.known:
        return None
    count, picked = len(data.entries), [i for i in indices.entries if isinstance(i, int)]
    if any(not -count <= index < count for index in picked):
        return None
    return Content(tuple(data.entries[index] for index in picked), indices.rank)


def _slice(sizes: Sizes, node: ir.Node) -> Content | None:
    data = sizes.content(_input(node, 0))
    bounds = [sizes.content(_input(node, index)) for index in (1, 2)]
    step = sizes.content(_input(node, 4)) if _input(node, 4) is not None else Content((1,), 1)
    if data is None or data.rank != 1:
        return None
    numbers = [
        part.entries[0] if part is not None and len(part.entries) == 1 else None
        for part in [*bounds, step]
    ]
    start, end, stride = numbers
    if not isinstance(start, int) or not isinstance(end, int) or stride != 1:
        return None
    return Content(data.entries[start:end], 1)


def _concat(sizes: Sizes, node: ir.Node) -> Content | None:
    entries: list[Entry] = []
    for value in node.inputs:
        content, shape = sizes.content(value), sizes.shape(value)
        if content is not None and content.rank == 1:
            entries += content.entries
        elif shape is not None and len(shape) == 1 and isinstance(shape[0], int):
            entries += [None] * min(shape[0], MAX_ENTRIES + 1)
        else:
            return None
    return Content(tuple(entries), 1)


def _reform(sizes: Sizes, node: ir.Node) -> Content | None:
    """Operators that keep the elements and may change the rank."""
    content, shape = sizes.content(_input(node, 0)), sizes.shape(node.outputs[0])
    if content is None:
        return None
    if shape is not None and len(shape) > 1:
        return None
    if shape is None:
        return None
    return Content(content.entries, len(shape))


def _cast(sizes: Sizes, node: ir.Node) -> Content | None:
    content = sizes.content(_input(node, 0))
    to = ir.DataType(attribute(node, "to", 0))
    if content is None or (to == ir.DataType.BOOL and not content.known):
        return None
    if to == ir.DataType.BOOL:
        return Content(tuple(int(entry != 0) for entry in content.entries), content.rank)
    if any(isinstance(entry, int) and not -(2**31) <= entry < 2**31 for entry in content.entries):
        return content if to == ir.DataType.INT64 else None
    return content


def _pairs(sizes: Sizes, node: ir.Node) -> tuple[list[tuple[Entry, ...]], int] | None:
    """The elements of the inputs, broadcast against each other, and the rank of the result."""
    contents = [sizes.content(value) for value in node.inputs]
    found = [content for content in contents if content is not None]
    if not found or len(found) < len(contents):
        return None
    counts = {len(content.entries) for content in found} - {1}
    if len(counts) > 1:
        return None
    count = counts.pop() if counts else 1
    columns = [c.entries * count if len(c.entries) == 1 else c.entries for c in found]
    return list(zip(*columns, strict=True)), max(content.rank for content in found)


def _elementwise(
    function: Callable[..., Entry],
) -> Callable[[Sizes, ir.Node], Content | None]:
    def rule(sizes: Sizes, node: ir.Node) -> Content | None:
        pairs = _pairs(sizes, node)
        if pairs is None:
            return None
        entries = tuple(function(*row) for row in pairs[0])
        top = 2**31 if node.outputs[0].dtype == ir.DataType.INT32 else 2**63
        fits = all(not isinstance(entry, int) or -top <= entry < top for entry in entries)
        return Content(entries, pairs[1]) if fits else None

    return rule


def _numbers(function: Callable[[int, int], int | None]) -> Callable[[Entry, Entry], Entry]:
    """``function`` on numbers, unknown on anything else."""

    def apply(a: Entry, b: Entry) -> Entry:
        return function(a, b) if isinstance(a, int) and isinstance(b, int) else None

    return apply


def _add(a: Entry, b: Entry) -> Entry:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return a if b == 0 else b if a == 0 else None


def _sub(a: Entry, b: Entry) -> Entry:
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    if a is not None and a == b:
        return 0
    return a if b == 0 else None


def _mul(a: Entry, b: Entry) -> Entry:
    return _product((a, b))


def _div(a: Entry, b: Entry) -> Entry:
    if isinstance(a, int) and isinstance(b, int) and b != 0:
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return a if b == 1 else None


def _mod(a: Entry, b: Entry) -> Entry:
    return a % b if isinstance(a, int) and isinstance(b, int) and a >= 0 and b > 0 else None


def _extreme(function: Callable[[list[int]], int], *, largest: bool) -> Callable[..., Entry]:
    def apply(*entries: Entry) -> Entry:
        distinct = set(entries)
        if len(distinct) == 1:
            return entries[0]
        numbers = [entry for entry in distinct if isinstance(entry, int)]
        if len(numbers) == len(distinct):
            return function(numbers)
        others = [entry for entry in distinct if isinstance(entry, Dim)]
        # A size is never negative.
        if largest and len(others) == 1 == len(distinct) - len(numbers) and max(numbers) <= 0:
            return others[0]
        return None

    return apply


def _equal(a: Entry, b: Entry) -> Entry:
    if a is None or b is None:
        return None
    if a == b:
        return 1
    numbers = [entry for entry in (a, b) if isinstance(entry, int)]
    # Two sizes may be equal by chance; a size never equals a negative number.
    return 0 if len(numbers) == 2 or (numbers and numbers[0] < 0) else None


def _where(condition: Entry, a: Entry, b: Entry) -> Entry:
    if isinstance(condition, int):
        return a if condition else b
    return a if a == b else None


def _product_of(sizes: Sizes, node: ir.Node) -> Content | None:
    content, shape = sizes.content(_input(node, 0)), node.outputs[0].shape
    axes = sizes.content(_input(node, 1))
    if content is None or shape is None or len(shape) > 1 or content.rank != 1:
        return None
    if axes is None:
        if _input(node, 1) is not None or attribute(node, "noop_with_empty_axes", 0):
            return None
    elif axes.entries not in ((0,), (-1,)):
        return None
    return Content((_product(content.entries),), len(shape))


def _filled(sizes: Sizes, node: ir.Node) -> Content | None:
    target, fill = sizes.content(_input(node, 0)), node.attributes.get("value")
    if target is None or not target.known or len(target.entries) > 1 or fill is None:
        return None
    count = target.entries[0] if target.entries else 1
    if not isinstance(count, int) or not 0 <= count <= MAX_ENTRIES:
        return None
    return Content((int(fill.as_tensor().numpy().item()),) * count, len(target.entries))


CONTENTS: dict[str, Callable[[Sizes, ir.Node], Content | None]] = {
    "Add": _elementwise(_add),
    "And": _elementwise(_numbers(lambda a, b: int(bool(a and b)))),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Div": _elementwise(_div),
    "Equal": _elementwise(_equal),
    "Gather": _gather,
    "Greater": _elementwise(_numbers(operator.gt)),
    "GreaterOrEqual": _elementwise(_numbers(operator.ge)),
    "Identity": _reform,
    "Less": _elementwise(_numbers(operator.lt)),
    "LessOrEqual": _elementwise(_numbers(operator.le)),
    "Max": _elementwise(_extreme(max, largest=True)),
    "Min": _elementwise(_extreme(min, largest=False)),
    "Mod": _elementwise(_mod),
    "Mul": _elementwise(_mul),
    "Neg": _elementwise(lambda a: -a if isinstance(a, int) else None),
    "Not": _elementwise(lambda a: int(not a) if isinstance(a, int) else None),
    "Or": _elementwise(_numbers(lambda a, b: int(bool(a or b)))),
    "ReduceProd": _product_of,
    "Reshape": _reform,
    "Shape": _shape_of,
    "Size": _size_of,
    "Slice": _slice,
    "Squeeze": _reform,
    "Sub": _elementwise(_sub),
    "Unsqueeze": _reform,
    "Where": _elementwise(_where),
}
