"""What is known of shapes and of small integer tensors before the model runs.

A dimension is a number, a :class:`Dim`: "the size of this axis of this value", or a
:class:`Sum` of several. Two dimensions are the same only if they come from the same places; names
are not believed. ONNX
says that inputs which share a dimension's name share its size, but no runtime enforces that,
so a model that is fed ``batch`` 1 here and 3 there broadcasts, and must go on doing so.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from infopt.ir import queries

MAX_ENTRIES = 64
"""Tensors with more integers than this are no shapes."""


@dataclasses.dataclass(frozen=True)
class Dim:
    """The size of axis ``axis`` of ``value``: some number that is not negative."""

    value: ir.Value
    axis: int


@dataclasses.dataclass(frozen=True)
class Sum:
    """Several sizes, one behind the other, as those of a past and of what is new."""

    counts: frozenset[tuple[Dim, int]]
    """How often each size is in it."""
    number: int
    """What is added to them; not negative, so that the sum is not."""


Size = int | Dim | Sum
Entry = int | Dim | Sum | None
"""An element of an integer tensor: a number, a size, or unknown."""


def plus(a: Entry, b: Entry) -> Entry:
    """The sum; unknown where it may be negative."""
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    counts, number = _counted(a)
    more, offset = _counted(b)
    return _sum(counts + more, number + offset)


def minus(a: Entry, b: Entry) -> Entry:
    """What is left of ``a`` if ``b`` is a part of it."""
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    counts, number = _counted(a)
    less, offset = _counted(b)
    return _sum(counts - less, number - offset) if less <= counts else None


def _counted(size: Size) -> tuple[Counter[Dim], int]:
    if isinstance(size, int):
        return Counter(), size
    if isinstance(size, Dim):
        return Counter([size]), 0
    return Counter(dict(size.counts)), size.number


def _sum(counts: Counter[Dim], number: int) -> Entry:
    if not counts:
        return number
    if number < 0:
        return None
    if number == 0 and counts.total() == 1:
        return next(iter(counts))
    return Sum(frozenset(counts.items()), number)


@dataclasses.dataclass(frozen=True)
class Content:
    """The elements of an integer or boolean tensor of rank 0 or 1."""

    entries: tuple[Entry, ...]
    rank: int

    @property
    def known(self) -> bool:
        """Whether every element is a number."""
        return all(isinstance(entry, int) for entry in self.entries)


class Known:
    """What is known so far of the values of a graph."""

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

    def learn_shape(self, value: ir.Value, found: Sequence[Size | None]) -> None:
        """Keep the size of each axis of ``value``; ``None`` where its own will do."""
        if value.shape is not None and len(value.shape) != len(found):
            return
        own = [_own(value, axis) for axis in range(len(found))]
        self._shapes[value] = tuple(
            mine if isinstance(mine, int) or size is None else size
            for mine, size in zip(own, found, strict=True)
        )

    def learn_content(self, value: ir.Value, found: Content) -> None:
        """Keep the elements of ``value``."""
        if len(found.entries) <= MAX_ENTRIES:
            self._contents[value] = found


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
