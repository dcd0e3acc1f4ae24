"""Follows through a graph which elements are told by their places, as those of masks are."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._lines import (
    Border,
    Line,
    Places,
    mapped,
    moved,
    numbers_of,
    of_table,
    steps_of,
)
from infopt.passes.matching import input_at, produced_by
from infopt.passes.sizes import Sizes

COUNTING = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Types that hold all positions exactly."""


class Positions:
    """What is known of tensors by the places of their elements; asked for, not visited."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self._known: dict[ir.Value, Places] = {}

    def of(self, value: ir.Value | None) -> Places:
        """What is known of ``value``."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = None  # until it is known
            self._known[value] = self._find(value)
        return self._known[value]

    def line(self, value: ir.Value | None) -> Line | None:
        """The line that ``value`` is, if it is one."""
        found = self.of(value)
        return found if isinstance(found, Line) else None

    def number(self, value: ir.Value | None) -> float | None:
        """What all elements of ``value`` are, if they are the same."""
        line = self.line(value)
        return None if line is None else line.number

    def _find(self, value: ir.Value) -> Places:
        tensor = queries.constant_tensor(value)
        if tensor is not None:
            return of_table(tensor)
        node = produced_by(value, *_RULES)
        return None if node is None else _RULES[node.op_type](self, node)


def _same(places: Positions, node: ir.Node) -> Places:
    return places.of(node.inputs[0])


def _cast(places: Positions, node: ir.Node) -> Places:
    known, to = places.of(node.inputs[0]), ir.DataType(queries.attribute(node, "to", 0))
    if to == ir.DataType.BOOL:
        return mapped(known, lambda number: float(number != 0))
    if isinstance(known, Line) and known.number is None:
        return known if to in COUNTING else None
    if to.is_floating_point():
        return known
    return mapped(known, float) if all(map(float.is_integer, numbers_of(known))) else None


def _range(places: Positions, node: ir.Node) -> Places:
    start, step = places.number(node.inputs[0]), places.number(node.inputs[2])
    if start is None or step is None or not step.is_integer():
        return None
    return Line(start, (int(step),))


def _filled(places: Positions, node: ir.Node) -> Places:
    fill, count = node.attributes.get("value"), places.sizes.rank(node.outputs[0])
    if count is None:
        return None
    number = 0.0 if fill is None else float(fill.as_tensor().numpy().item())
    return Line(number, (0,) * count)


def _axes(places: Positions, node: ir.Node, count: int) -> set[int] | None:
    axes = places.sizes.content(input_at(node, 1))
    if axes is None or not axes.known:
        return None
    return {int(str(axis)) % count for axis in axes.entries}


def _unsqueeze(places: Positions, node: ir.Node) -> Places:
    known, count = places.of(node.inputs[0]), places.sizes.rank(node.outputs[0])
    axes = None if count is None else _axes(places, node, count)
    if axes is None or count is None:
        return None
    rest = iter(steps_of(known))
    return moved(known, [0 if axis in axes else next(rest, 0) for axis in range(count)])


def _squeeze(places: Positions, node: ir.Node) -> Places:
    known = places.of(node.inputs[0])
    steps = steps_of(known)
    axes = _axes(places, node, len(steps)) if steps else None
    if axes is None:
        return None
    return moved(known, [step for axis, step in enumerate(steps) if axis not in axes])


def _transpose(places: Positions, node: ir.Node) -> Places:
    known = places.of(node.inputs[0])
    steps = steps_of(known)
    perm = queries.attribute(node, "perm", tuple(range(len(steps)))[::-1])
    return moved(known, [steps[axis] for axis in perm]) if len(perm) == len(steps) else None


def _expand(places: Positions, node: ir.Node) -> Places:
    source, sizes = node.inputs[0], places.sizes
    known, count = places.of(source), sizes.rank(node.outputs[0])
    steps = steps_of(known)
    if source is None or count is None or count < len(steps):
        return None
    added = count - len(steps)
    for axis, step in enumerate(steps):
        if step and not sizes.agree(node.outputs[0], axis + added, source, axis):
            return None
    return moved(known, (0,) * added + steps)


def _tile(places: Positions, node: ir.Node) -> Places:
    known, times = places.of(node.inputs[0]), places.sizes.content(node.inputs[1])
    steps = steps_of(known)
    if times is None or len(times.entries) != len(steps):
        return None
    counts = [count for step, count in zip(steps, times.entries, strict=True) if step]
    return known if all(count == 1 for count in counts) else None


def _reshape(places: Positions, node: ir.Node) -> Places:
    """A Reshape that only adds or drops axes of one element."""
    known = places.of(node.inputs[0])
    before, after = places.sizes.shape(node.inputs[0]), places.sizes.shape(node.outputs[0])
    if known is None or before is None or after is None:
        return None
    if [size for size in before if size != 1] != [size for size in after if size != 1]:
        return None
    rest = iter(step for step, size in zip(steps_of(known), before, strict=True) if size != 1)
    return moved(known, [0 if size == 1 else next(rest) for size in after])


def _slice(places: Positions, node: ir.Node) -> Places:
    known, sizes = places.of(node.inputs[0]), places.sizes
    bounds = [sizes.content(input_at(node, index)) for index in (1, 3)]
    steps = steps_of(known)
    if not steps or any(bound is None or not bound.known for bound in bounds):
        return None
    starts, axes = ([int(str(entry)) for entry in bound.entries] for bound in bounds if bound)
    strides = sizes.content(input_at(node, 4))
    if input_at(node, 4) is not None and (strides is None or set(strides.entries) != {1}):
        return None
    if any(start < 0 for start in starts):
        return None
    return moved(known, steps, sum(s * steps[axis] for s, axis in zip(starts, axes, strict=True)))


def _concat(places: Positions, node: ir.Node) -> Places:
    lines = [places.line(value) for value in node.inputs]
    axis, first = queries.attribute(node, "axis", 0), lines[0]
    if first is None:
        return None
    start = first.start
    for value, line in zip(node.inputs, lines, strict=True):
        if line is None or line != dataclasses.replace(first, start=start):
            return None
        length = places.sizes.number(value, axis) if first.steps[axis] else 0
        if length is None:
            if value is not node.inputs[-1]:
                return None
            length = 0
        start += first.steps[axis] * length
    return first


def _broadcasts(places: Positions, node: ir.Node) -> bool:
    """Whether no axis along which an input counts is broadcast to another length."""
    sizes = places.sizes
    for value in node.inputs:
        steps = steps_of(places.of(value))
        for back, step in enumerate(steps[::-1], 1):
            for other in node.inputs:
                shape = sizes.shape(other)
                if not step or other is value or (shape is not None and len(shape) < back):
                    continue
                if shape is None or value is None or other is None:
                    return False
                if shape[-back] != 1 and not sizes.agree(other, -back, value, -back):
                    return False
    return True


def _sum(sign: int) -> Callable[[Positions, ir.Node], Places]:
    def rule(places: Positions, node: ir.Node) -> Places:
        left, right = map(places.of, node.inputs)
        if isinstance(left, Line) and isinstance(right, Line):
            return left.plus(right, sign) if _broadcasts(places, node) else None
        return _with_number(places, node, operator.add if sign > 0 else operator.sub)

    return rule


def _with_number(
    places: Positions, node: ir.Node, function: Callable[[float, float], float]
) -> Places:
    """An operator on two numbers, of which one or both are the same everywhere."""
    left, right = map(places.of, node.inputs)
    number, other = places.number(node.inputs[0]), places.number(node.inputs[1])
    if left is None or right is None or not _broadcasts(places, node):
        return None
    count = max(len(steps_of(left)), len(steps_of(right)))
    if other is not None:
        found = mapped(left, lambda x: function(x, other))
    elif number is not None:
        found = mapped(right, lambda x: function(number, x))
    else:
        return None
    steps = steps_of(found)
    return moved(found, (0,) * (count - len(steps)) + steps)


def _compared(strict: int, swapped: bool) -> Callable[[Positions, ir.Node], Places]:
    """``a >= b`` (or ``a > b``, if ``strict`` is 1), of both inputs or of them swapped."""

    def rule(places: Positions, node: ir.Node) -> Places:
        a, b = map(places.line, node.inputs[::-1] if swapped else node.inputs)
        if a is None or b is None or not _broadcasts(places, node):
            return None
        line = (a - b).plus(Line(-float(strict), ()))
        if not line.start.is_integer():
            return None
        if line.number is not None:
            return Line(float(line.start >= 0), line.steps)
        return Border(line, 1.0, 0.0)

    return rule


def _equal(places: Positions, node: ir.Node) -> Places:
    a, b = map(places.line, node.inputs)
    if a is None or b is None:
        return _with_number(places, node, lambda x, y: float(x == y))
    line = a - b
    if line.number is None or not _broadcasts(places, node):
        return None
    return Line(float(line.start == 0), line.steps)


def _not(places: Positions, node: ir.Node) -> Places:
    return mapped(places.of(node.inputs[0]), lambda number: float(not number))


def _where(places: Positions, node: ir.Node) -> Places:
    condition, numbers = places.of(node.inputs[0]), [places.number(x) for x in node.inputs[1:]]
    yes, no = numbers
    if yes is None or no is None or not _broadcasts(places, node):
        return None
    found = mapped(condition, lambda truth: yes if truth else no)
    count = places.sizes.rank(node.outputs[0])
    steps = steps_of(found)
    return None if count is None else moved(found, (0,) * (count - len(steps)) + steps)


def _trilu(places: Positions, node: ir.Node) -> Places:
    known, diagonal = places.line(node.inputs[0]), input_at(node, 1)
    shift = 0.0 if diagonal is None else places.number(diagonal)
    if known is None or known.number is None or shift is None or known.number == 0:
        return known if known is not None and known.number == 0 else None
    rest = (0,) * (len(known.steps) - 2)
    if queries.attribute(node, "upper", 1):
        return Border(Line(-shift, (*rest, -1, 1)), known.number, 0.0)
    return Border(Line(shift, (*rest, 1, -1)), known.number, 0.0)


def _running_sum(places: Positions, node: ir.Node) -> Places:
    known = places.line(node.inputs[0])
    return known if known is not None and known.number == 0 else None


def _gather_at(places: Positions, node: ir.Node) -> Places:
    """Elements of a line at places that are lines, too, one for each axis of the data."""
    data, count = places.line(node.inputs[0]), places.sizes.rank(node.outputs[0])
    if data is None or count is None or queries.attribute(node, "batch_dims", 0):
        return None
    if data.number is not None:
        return Line(data.start, (0,) * count)
    concat = produced_by(node.inputs[1], "Concat")
    if concat is None or len(concat.inputs) != len(data.steps):
        return None
    if queries.attribute(concat, "axis", 0) not in (-1, count):
        return None
    result = Line(data.start, (0,) * count)
    for value, step in zip(concat.inputs, data.steps, strict=True):
        place = places.line(value)
        if not step:
            continue
        if place is None or place.start < 0 or min(place.steps) < 0:
            return None
        if places.sizes.number(value, -1) != 1:
            return None
        result = result.plus(Line(place.start, place.steps[:-1]), step)
    return result


_RULES: dict[str, Callable[[Positions, ir.Node], Places]] = {
    "Add": _sum(1),
    "And": lambda p, n: _with_number(p, n, lambda a, b: float(bool(a and b))),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "CumSum": _running_sum,
    "Equal": _equal,
    "Expand": _expand,
    "GatherND": _gather_at,
    "Greater": _compared(1, swapped=False),
    "GreaterOrEqual": _compared(0, swapped=False),
    "Identity": _same,
    "Less": _compared(1, swapped=True),
    "LessOrEqual": _compared(0, swapped=True),
    "Mul": lambda p, n: _with_number(p, n, operator.mul),
    "Not": _not,
    "Or": lambda p, n: _with_number(p, n, lambda a, b: float(bool(a or b))),
    "Range": _range,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _sum(-1),
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
