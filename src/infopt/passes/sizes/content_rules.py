"""How the elements of a small integer tensor follow from those of the inputs."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

import onnx_ir as ir

from infopt.ir.queries import attribute
from infopt.passes.matching import input_at
from infopt.passes.sizes.known import MAX_ENTRIES, Content, Dim, Entry, Known, minus, plus


def _shape_of(known: Known, node: ir.Node) -> Content | None:
    shape = known.shape(input_at(node, 0))
    if shape is None:
        return None
    start, end = attribute(node, "start", 0), attribute(node, "end", len(shape))
    return Content(tuple(shape[start:end]), 1)


def _size_of(known: Known, node: ir.Node) -> Content | None:
    shape = known.shape(input_at(node, 0))
    return None if shape is None else Content((_product(shape),), 0)


def _product(entries: Sequence[Entry]) -> Entry:
    numbers = [entry for entry in entries if isinstance(entry, int)]
    others = [entry for entry in entries if not isinstance(entry, int)]
    number = math.prod(numbers)
    if not others or number == 0:
        return number
    return others[0] if number == 1 and len(others) == 1 else None


def _gather(known: Known, node: ir.Node) -> Content | None:
    data, indices = known.content(input_at(node, 0)), known.content(input_at(node, 1))
    if data is None or indices is None or data.rank != 1 or not indices.known:
        return None
    count, picked = len(data.entries), [i for i in indices.entries if isinstance(i, int)]
    if any(not -count <= index < count for index in picked):
        return None
    return Content(tuple(data.entries[index] for index in picked), indices.rank)


def _slice(known: Known, node: ir.Node) -> Content | None:
    data = known.content(input_at(node, 0))
    bounds = [known.content(input_at(node, index)) for index in (1, 2)]
    step = known.content(input_at(node, 4)) if input_at(node, 4) is not None else Content((1,), 1)
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


def _concat(known: Known, node: ir.Node) -> Content | None:
    entries: list[Entry] = []
    for value in node.inputs:
        content, shape = known.content(value), known.shape(value)
        if content is not None and content.rank == 1:
            entries += content.entries
        elif shape is not None and len(shape) == 1 and isinstance(shape[0], int):
            entries += [None] * min(shape[0], MAX_ENTRIES + 1)
        else:
            return None
    return Content(tuple(entries), 1)


def _reform(known: Known, node: ir.Node) -> Content | None:
    """Operators that keep the elements and may change the rank."""
    content, shape = known.content(input_at(node, 0)), known.shape(node.outputs[0])
    if content is None:
        return None
    if shape is not None and len(shape) > 1:
        return None
    if shape is None:
        return None
    return Content(content.entries, len(shape))


def _cast(known: Known, node: ir.Node) -> Content | None:
    content = known.content(input_at(node, 0))
    to = ir.DataType(attribute(node, "to", 0))
    if content is None or (to == ir.DataType.BOOL and not content.known):
        return None
    if to == ir.DataType.BOOL:
        return Content(tuple(int(entry != 0) for entry in content.entries), content.rank)
    if any(isinstance(entry, int) and not -(2**31) <= entry < 2**31 for entry in content.entries):
        return content if to == ir.DataType.INT64 else None
    return content


def _pairs(known: Known, node: ir.Node) -> tuple[list[tuple[Entry, ...]], int] | None:
    """The elements of the inputs, broadcast against each other, and the rank of the result."""
    contents = [known.content(value) for value in node.inputs]
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
) -> Callable[[Known, ir.Node], Content | None]:
    def rule(known: Known, node: ir.Node) -> Content | None:
        pairs = _pairs(known, node)
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


def _product_of(known: Known, node: ir.Node) -> Content | None:
    content, shape = known.content(input_at(node, 0)), node.outputs[0].shape
    axes = known.content(input_at(node, 1))
    if content is None or shape is None or len(shape) > 1 or content.rank != 1:
        return None
    if axes is None:
        if input_at(node, 1) is not None or attribute(node, "noop_with_empty_axes", 0):
            return None
    elif axes.entries not in ((0,), (-1,)):
        return None
    return Content((_product(content.entries),), len(shape))


def _filled(known: Known, node: ir.Node) -> Content | None:
    target, fill = known.content(input_at(node, 0)), node.attributes.get("value")
    if target is None or not target.known or len(target.entries) > 1 or fill is None:
        return None
    count = target.entries[0] if target.entries else 1
    if not isinstance(count, int) or not 0 <= count <= MAX_ENTRIES:
        return None
    return Content((int(fill.as_tensor().numpy().item()),) * count, len(target.entries))


CONTENTS: dict[str, Callable[[Known, ir.Node], Content | None]] = {
    "Add": _elementwise(plus),
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
    "Sub": _elementwise(minus),
    "Unsqueeze": _reform,
    "Where": _elementwise(_where),
}
