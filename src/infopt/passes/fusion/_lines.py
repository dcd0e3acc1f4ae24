"""Tensors whose elements follow from their places.

Of such a tensor one of two things is known: that its elements are a :class:`Line` (the same
everywhere, or counting along its axes), or that it has one number on one side of such a line and
another one on the other, a :class:`Border`. Booleans are ones and zeros.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir as ir

LARGEST = 1 << 24
"""Constants with more elements than this are no tables of positions."""

LONGEST = 1 << 16
"""Nor do those with more than this count along their axes."""


@dataclasses.dataclass(frozen=True)
class Line:
    """``start + Σ steps[axis] · index[axis]``."""

    start: float
    steps: tuple[int, ...]

    @property
    def number(self) -> float | None:
        """What all elements are, if they are the same."""
        return None if any(self.steps) else self.start

    def __sub__(self, other: Line) -> Line:
        """The difference, broadcast."""
        return self.plus(other, -1)

    def plus(self, other: Line, factor: int = 1) -> Line:
        """The sum with ``factor`` times another one, broadcast."""
        count = max(len(self.steps), len(other.steps))
        mine, its = ((0,) * (count - len(steps)) + steps for steps in (self.steps, other.steps))
        steps = tuple(a + factor * b for a, b in zip(mine, its, strict=True))
        return Line(self.start + factor * other.start, steps)


@dataclasses.dataclass(frozen=True)
class Border:
    """``inside`` where the line is not negative, ``outside`` where it is."""

    line: Line
    inside: float
    outside: float

    def mapped(self, function: Callable[[float], float]) -> Border | Line:
        """The same border between other numbers."""
        inside, outside = function(self.inside), function(self.outside)
        if inside == outside:
            return Line(inside, (0,) * len(self.line.steps))
        return Border(self.line, inside, outside)


Places = Line | Border | None


def moved(known: Places, steps: Iterable[int], start: float = 0.0) -> Places:
    """``known`` with its steps rearranged, and its line starting later."""
    line = known.line if isinstance(known, Border) else known
    if line is None:
        return None
    line = Line(line.start + start, tuple(steps))
    return dataclasses.replace(known, line=line) if isinstance(known, Border) else line


def steps_of(known: Places) -> tuple[int, ...]:
    """The steps of the line; none if nothing is known."""
    line = known.line if isinstance(known, Border) else known
    return () if line is None else line.steps


def numbers_of(known: Places) -> tuple[float, ...]:
    """The numbers that there are, if they are one or two."""
    if isinstance(known, Border):
        return known.inside, known.outside
    return () if known is None or known.number is None else (known.start,)


def mapped(known: Places, function: Callable[[float], float]) -> Places:
    """A function of each element, where there are only one or two numbers."""
    if isinstance(known, Border):
        return known.mapped(function)
    if known is None or known.number is None:
        return None
    return dataclasses.replace(known, start=function(known.start))


def of_table(tensor: ir.TensorProtocol) -> Places:
    """What is known of a constant."""
    if not 0 < tensor.size <= LARGEST or tensor.dtype == ir.DataType.STRING:
        return None
    array = tensor.numpy()
    if array.dtype.kind not in "fiub":
        return None
    first = float(array.flat[0])
    if (array == array.flat[0]).all():
        return Line(first, (0,) * array.ndim)
    if array.size <= LONGEST:
        line = _of_row(array.astype(np.float64))
        if line is not None:
            return line
    return _of_triangle(array)


def _of_row(numbers: np.ndarray) -> Line | None:
    """A table that counts along its axes."""
    first = numbers.flat[0]
    seconds = [numbers.take([1], axis, mode="clip").flat[0] for axis in range(numbers.ndim)]
    if not np.isfinite([first, *seconds]).all():
        return None
    steps = [int(second - first) for second in seconds]
    places = np.ogrid[tuple(map(slice, numbers.shape))]
    line = first + sum(step * place for step, place in zip(steps, places, strict=True))
    return Line(float(first), tuple(steps)) if np.array_equal(line, numbers) else None


def _of_triangle(array: np.ndarray) -> Border | None:
    """A table in which all numbers up to a diagonal are the same, and those behind it are."""
    if array.ndim < 2:
        return None
    row = array[(0,) * (array.ndim - 1)]
    others = np.flatnonzero(row != row[0])
    if not others.size:
        return None
    count, rest = int(others[0]), (0,) * (array.ndim - 2)
    rows, columns = (np.arange(size) for size in array.shape[-2:])
    allowed = columns <= rows[:, None] + count - 1
    if not (array == np.where(allowed, row[0], row[count])).all():
        return None
    return Border(Line(count - 1.0, (*rest, 1, -1)), float(row[0]), float(row[count]))
