"""Sizes of dynamic dimensions: as the user gives them, and as they are tried."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from infopt.errors import UsageError, nearest

Range = tuple[int, int]
"""Smallest and largest size of a dimension, both inclusive."""
Shapes = Mapping[str, Sequence[Range]]
"""Input name → range of each dimension; or name of a dynamic dimension → its one range, where
``batch`` also stands for the dynamic first axis of every input."""
Usual = Mapping[str, Sequence[int]]
"""The same names → the one size of each dimension that an engine is to be fastest at."""

Given = Mapping[str, Sequence[int | Range | tuple[int, int, int]]] | Sequence[str]
"""The same as users give it, ``{"x": (1, (1, 512))}``, or in words, ``["x=1x1..512"]``; with the
usual size, ``{"x": (1, (1, 512, 128))}`` or ``["x=1x1..512@1x128"]``."""

Profile = Given | str
"""The same for one of several profiles; in words with commas: ``"x=1x1..512@1x128,batch=1"``."""

_ONE = re.compile(r"(\d+)(?:\.\.(\d+))?")


def parse_shape(text: str) -> tuple[str, tuple[Range, ...]]:
    """``x=1x128``, ``x=1..8x1..512`` or ``x=1..8x1..512@4x128`` as a name and its ranges.

    Raises:
        UsageError: The text has another form.
    """
    name, ranges, _ = _parse(text)
    return name, ranges


def _parse(text: str) -> tuple[str, tuple[Range, ...], tuple[int, ...] | None]:
    """Name, ranges, and the usual sizes behind an ``@`` if there are any."""
    name, equals, dims = text.rpartition("=")
    dims, at, behind = dims.partition("@")
    if not equals or not name:
        raise _malformed(text)
    parts = dims.split("x") if dims not in ("", "scalar") else []
    ranges = tuple(_range(part, text) for part in parts)
    if not at:
        return name, ranges, None
    usual = tuple(_range(part, text) for part in behind.split("x"))
    if len(usual) != len(ranges) or any(low != high for low, high in usual):
        raise _malformed(text)
    for (size, _), bounds in zip(usual, ranges, strict=True):
        if not bounds[0] <= size <= bounds[1]:
            raise UsageError(
                f"shape {text!r}: the usual size {size} is not within {as_text(bounds)}"
            )
    return name, ranges, tuple(size for size, _ in usual)


def _range(part: str, text: str) -> Range:
    match = _ONE.fullmatch(part.strip())
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if low > high:
        raise _malformed(text)
    return low, high


def _malformed(text: str) -> UsageError:
    return UsageError(
        f"shape {text!r} is not understood; write name=1x128, name=1..8x1..512 for ranges, or "
        "name=1..8x1..512@4x128 with the usual sizes"
    )


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[Range, ...]]:
    """Several of :func:`parse_shape`; the last one for a name counts."""
    return dict(map(parse_shape, texts))


def parse_usual(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The usual sizes of those texts that have them behind an ``@``.

    Raises:
        UsageError: A text has another form, or its usual sizes are not within its ranges.
    """
    found = {name: usual for name, _, usual in map(_parse, texts)}  # the last for a name counts
    return {name: usual for name, usual in found.items() if usual is not None}


def as_shapes(given: Given) -> Shapes:
    """``given`` as ranges.

    Raises:
        UsageError: A text has another form.
    """
    if not isinstance(given, Mapping):
        return parse_shapes(given)
    return {
        name: tuple((size, size) if isinstance(size, int) else size[:2] for size in sizes)
        for name, sizes in given.items()
    }


def as_usual(given: Given) -> Usual:
    """The usual sizes of inputs of which one is said; of their other dimensions the largest."""
    if not isinstance(given, Mapping):
        return parse_usual(given)
    return {
        name: tuple(size if isinstance(size, int) else size[-1] for size in sizes)
        for name, sizes in given.items()
        if any(not isinstance(size, int) and len(size) == 3 for size in sizes)
    }


def as_given(profile: Profile) -> Given:
    """One profile in the form of what is given for all sizes."""
    return profile.split(",") if isinstance(profile, str) else profile


Dim = str | tuple[str, int]
"""A dynamic dimension: its name in the model, or (input, axis) where it has none."""


def dims_of(value: ir.Value) -> list[int | Dim]:
    """Each dimension of an input: its size, or the dynamic dimension that it is.

    Raises:
        UsageError: Not even the rank is known.
    """
    name = value.name or ""
    if value.shape is None:
        raise UsageError(
            f"the rank of input {name!r} is unknown; give sample data, or a shape for it"
        )
    return [
        size if isinstance(size, int) else (size.value or (name, axis))
        for axis, size in enumerate(value.shape)
    ]


def dynamic(inputs: Sequence[ir.Value]) -> list[Dim]:
    """The dynamic dimensions of these inputs, each once."""
    dims = [dim for value in inputs if value.shape is not None for dim in dims_of(value)]
    return list(dict.fromkeys(dim for dim in dims if not isinstance(dim, int)))


def label(dim: Dim) -> str:
    """What a person would call it: ``batch``, or ``x[2]``."""
    return dim if isinstance(dim, str) else f"{dim[0]}[{dim[1]}]"


def bind(inputs: Sequence[ir.Value], shapes: Shapes) -> dict[Dim, Range]:
    """The range of each dynamic dimension that ``shapes`` speaks of.

    Raises:
        UsageError: ``shapes`` names an unknown input or dimension, has another rank, contradicts
            a fixed size, or gives one dimension two ranges.
    """
    known = {value.name or "": value for value in inputs}
    bound: dict[Dim, Range] = {}
    for name, ranges in shapes.items():
        if name not in known:
            _bind_dimension(name, ranges, inputs, bound)
            continue
        value = known[name]
        dims = (
            dims_of(value) if value.shape is not None else [(name, i) for i in range(len(ranges))]
        )
        if len(dims) != len(ranges):
            raise UsageError(
                f"a shape of rank {len(ranges)} is given for input {name!r}, "
                f"which has rank {len(dims)}: {value.shape}"
            )
        for dim, wanted in zip(dims, ranges, strict=True):
            if isinstance(dim, int):
                if wanted != (dim, dim):
                    raise UsageError(
                        f"input {name!r} is {value.shape}: a dimension fixed at {dim} "
                        f"cannot be {as_text(wanted)}"
                    )
            elif bound.setdefault(dim, wanted) != wanted:
                raise UsageError(
                    f"dimension {label(dim)!r} cannot be both {as_text(bound[dim])} "
                    f"and {as_text(wanted)}; inputs that share a dimension must agree"
                )
    return bound


def _bind_dimension(
    name: str, ranges: Sequence[Range], inputs: Sequence[ir.Value], bound: dict[Dim, Range]
) -> None:
    """The range of a dimension by its own name, or of the first axes that are called a batch."""
    dims = [dim for value in inputs if value.shape is not None for dim in dims_of(value)]
    meant = [dim for dim in dims if not isinstance(dim, int) and label(dim) == name]
    if not meant and name == "batch":
        firsts = [dims_of(value)[0] for value in inputs if value.shape is not None and value.shape]
        meant = [dim for dim in firsts if not isinstance(dim, int)]
    if not meant or len(ranges) != 1:
        known = [value.name or "" for value in inputs]
        known += dict.fromkeys(label(dim) for dim in dims if not isinstance(dim, int))
        raise UsageError(
            f"a shape is given for {name!r}, but the model has no such input or dynamic dimension"
            f"{nearest(name, known)}; it has: {', '.join(known)}"
        )
    for dim in meant:
        if bound.setdefault(dim, ranges[0]) != ranges[0]:
            raise UsageError(
                f"dimension {label(dim)!r} cannot be both {as_text(bound[dim])} "
                f"and {as_text(ranges[0])}; inputs that share a dimension must agree"
            )


def as_text(bounds: Range) -> str:
    """``1..32``, or ``8``."""
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]}..{bounds[1]}"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Two sizes to try for each dynamic dimension; the same one twice where only one is wanted."""

    low: Mapping[Dim, int]
    high: Mapping[Dim, int]
    sums: Mapping[Dim, Sequence[Dim]] = dataclasses.field(default_factory=dict)
    """Dimensions that are as large as others together, whatever stands for them above."""

    def combinations(self, limit: int = 6) -> Iterator[dict[Dim, int]]:
        """All low, all high, then mixtures, at most ``limit`` in all."""
        apart = [dim for dim in self.low if dim not in self.sums]
        moving = [dim for dim in apart if self.low[dim] != self.high[dim]]
        picks: list[tuple[Dim, ...]] = [(), tuple(moving)]
        for count in range(1, len(moving)):
            picks += itertools.combinations(moving, count)
        seen: list[dict[Dim, int]] = []
        for pick in picks[: limit if moving else 1]:
            sizes = {dim: (self.high if dim in pick else self.low)[dim] for dim in self.low}
            sizes |= {dim: sum(sizes[part] for part in parts) for dim, parts in self.sums.items()}
            if sizes not in seen:
                seen.append(sizes)
                yield sizes


_BATCH = (1, 3)
_SPATIAL = ((64, 96), (224, 256), (32, 48), (320, 640))
_OTHER = ((7, 16), (32, 48), (128, 160), (512, 640), (576, 1024), (16000, 24000))


def proposals(inputs: Sequence[ir.Value], bound: Mapping[Dim, Range]) -> Iterator[Sizes]:
    """Sizes to try, the likeliest first; a model may run at only some of them.

    What the user bound is taken as it is. Of the rest, the first axis is taken for a batch,
    the last two of a rank-4 or 5 input for height and width, others for a length. Dimensions
    without a name are first taken for independent, then for one batch where they come first.
    Where that fails, a mask is taken to be as long as what is given and what was given before.
    """
    sums = {dim: parts for dim, parts in _sums(inputs).items() if dim not in bound}
    for attempt in range(max(len(_SPATIAL), len(_OTHER))):
        low: dict[Dim, int] = {}
        high: dict[Dim, int] = {}
        for value in inputs:
            if value.shape is None:
                continue
            rank = len(value.shape)
            for axis, dim in enumerate(dims_of(value)):
                if isinstance(dim, int) or dim in low:
                    continue
                if dim in bound:
                    low[dim], high[dim] = bound[dim]
                elif axis == 0 or (isinstance(dim, str) and "batch" in dim.lower()):
                    low[dim], high[dim] = _BATCH
                elif rank >= 4 and axis >= 2:
                    low[dim], high[dim] = _SPATIAL[attempt % len(_SPATIAL)]
                elif isinstance(dim, tuple) and axis == 1 and rank == 3:
                    # An unnamed middle axis is as often a batch (states of an RNN) as a length.
                    low[dim], high[dim] = _BATCH
                else:
                    low[dim], high[dim] = _OTHER[attempt % len(_OTHER)]
        yield Sizes(low, high)
        if sums:
            yield Sizes(low, high, sums)
        if all(dim in bound for dim in low):
            return


def _sums(inputs: Sequence[ir.Value]) -> dict[Dim, tuple[Dim, ...]]:
    """The length of a mask that no other input has, and the two lengths that there are beside it.

    So it is in a decoder with a cache: its mask covers the tokens of former calls as well.
    """
    lengths: dict[Dim, list[str]] = {}
    for value in inputs:
        dims = [] if value.shape is None else dims_of(value)
        for dim in dims[1:]:
            if not isinstance(dim, int):
                lengths.setdefault(dim, []).append(value.name or "")
    masks = [
        dim for dim, names in lengths.items() if len(names) == 1 and "mask" in names[0].lower()
    ]
    parts = tuple(dim for dim in lengths if dim not in masks)
    return {masks[0]: parts} if len(masks) == 1 and len(parts) == 2 else {}
