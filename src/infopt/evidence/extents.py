"""Extents: between which sizes each dynamic dimension moves, for runtimes that have to know."""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from infopt.errors import UsageError
from infopt.evidence import shapes as shapes_
from infopt.evidence.data import DataSource, load_data
from infopt.evidence.equivalence import Sample
from infopt.evidence.shapes import Dim, label
from infopt.evidence.synthetic import required_inputs


@dataclasses.dataclass(frozen=True)
class Extent:
    """Sizes of one dynamic dimension, both ends inclusive."""

    least: int
    most: int
    usual: int
    """The size to be fastest at."""

    def __str__(self) -> str:
        """Return ``1..32@8``, as it is written behind ``--shape``."""
        if self.least == self.most:
            return str(self.least)
        return f"{self.least}..{self.most}@{self.usual}"


Extents = Mapping[Dim, Extent]
"""The extent of every dynamic dimension."""


def profiles_of(
    model: ir.Model,
    given: shapes_.Given,
    profiles: Sequence[shapes_.Profile],
    data: DataSource | None,
) -> list[dict[Dim, Extent]]:
    """The extents of every profile of an engine: see :func:`find_profiles`; one if none is named.

    Raises:
        UsageError: As there; or ``profiles`` are given for a model of fixed sizes.
    """
    inputs = required_inputs(model)
    samples = () if data is None else load_data(data, model)
    if not profiles:
        usual = shapes_.as_usual(given)
        return [find_extents(inputs, shapes_.as_shapes(given), usual, samples)]
    return find_profiles(inputs, [shapes_.as_given(each) for each in profiles], given, samples)


def find_extents(
    inputs: Sequence[ir.Value],
    shapes: shapes_.Shapes,
    usual: shapes_.Usual,
    samples: Iterable[Sample] = (),
) -> dict[Dim, Extent]:
    """The extent of every dynamic dimension: as the user says it, else as the data shows it.

    Where nobody says which size is the usual one, it is the middle one of the data (its median),
    and without data the largest.

    Args:
        inputs: The inputs that a caller has to give.
        shapes: The user's ranges.
        usual: The user's usual sizes, each with a range of its own in ``shapes``.
        samples: The user's data.

    Raises:
        UsageError: A dimension has no bounds, the data or a usual size goes beyond them, or the
            rank of an input is unknown.
    """
    bounds, wanted = shapes_.bind(inputs, shapes), _bind_usual(inputs, usual)
    return _extents(inputs, bounds, wanted, [_sizes_of(inputs, sample) for sample in samples])


def find_profiles(
    inputs: Sequence[ir.Value],
    profiles: Sequence[shapes_.Given],
    common: shapes_.Given = (),
    samples: Iterable[Sample] = (),
) -> list[dict[Dim, Extent]]:
    """The extents of several profiles, between whose sizes an engine need not run.

    Each is what the user says of it; what it says nothing of is as said for all, else as in those
    samples of the data that fit it.

    Args:
        inputs: The inputs that a caller has to give.
        profiles: The user's ranges and usual sizes of each.
        common: Those for all.
        samples: The user's data.

    Raises:
        UsageError: A profile lacks bounds, contradicts itself, ``common`` or another one; or a
            sample fits none.
    """
    dims = shapes_.dynamic(inputs)
    if not dims:
        raise UsageError("all inputs of the model have fixed sizes; leave the profiles out")
    seen = [_sizes_of(inputs, sample) for sample in samples]
    around = shapes_.bind(inputs, shapes_.as_shapes(common))
    usual = _bind_usual(inputs, shapes_.as_usual(common))
    found: list[dict[Dim, Extent]] = []
    strangers = seen
    for number, profile in enumerate(profiles, 1):
        try:
            own = shapes_.bind(inputs, shapes_.as_shapes(profile))
            _keep_within(own, around)
            bounds = {**around, **own}
            wanted = {dim: size for dim, size in usual.items() if dim not in own}
            wanted |= _bind_usual(inputs, shapes_.as_usual(profile))
            fitting = [sizes for sizes in seen if _fits(sizes, bounds)]
            extents = _extents(inputs, bounds, wanted, fitting)
        except UsageError as error:
            raise UsageError(f"profile {number}: {error}") from None
        if extents in found:
            raise UsageError(
                f"profiles {found.index(extents) + 1} and {number} are the same; leave one out"
            )
        found.append(extents)
        strangers = [sizes for sizes in strangers if not _fits(sizes, bounds)]
    if strangers:
        sizes = ", ".join(f"{label(d)} = {max(s)}" for d, s in strangers[0].items())
        raise UsageError(
            f"a sample of the data fits none of the {len(profiles)} profiles ({sizes}); widen "
            "one, add one, or leave such samples out"
        )
    return found


def _bind_usual(inputs: Sequence[ir.Value], usual: shapes_.Usual) -> dict[Dim, int]:
    one = {name: [(size, size) for size in sizes] for name, sizes in usual.items()}
    return {dim: size for dim, (size, _) in shapes_.bind(inputs, one).items()}


def _keep_within(own: Mapping[Dim, shapes_.Range], around: Mapping[Dim, shapes_.Range]) -> None:
    for dim, (low, high) in own.items():
        least, most = around.get(dim, (low, high))
        if not least <= low <= high <= most:
            raise UsageError(
                f"dimension {label(dim)!r} is {shapes_.as_text((low, high))}, and the shapes for "
                f"all profiles say {shapes_.as_text((least, most))}; leave one of both out"
            )


def _fits(sizes: Mapping[Dim, Sequence[int]], bounds: Mapping[Dim, shapes_.Range]) -> bool:
    return all(
        bounds[dim][0] <= size <= bounds[dim][1]
        for dim, several in sizes.items()
        if dim in bounds
        for size in several
    )


def _extents(
    inputs: Sequence[ir.Value],
    bounds: Mapping[Dim, shapes_.Range],
    wanted: Mapping[Dim, int],
    samples: Sequence[Mapping[Dim, Sequence[int]]],
) -> dict[Dim, Extent]:
    """The extent of every dynamic dimension, from what the user and the data say of it."""
    seen: dict[Dim, list[int]] = defaultdict(list)
    for sizes in samples:
        for dim, several in sizes.items():
            seen[dim] += several
    dims = dict.fromkeys(
        dim for value in inputs for dim in shapes_.dims_of(value) if not isinstance(dim, int)
    )
    unbounded = [dim for dim in dims if dim not in bounds and dim not in seen]
    if unbounded:
        raise UsageError(_no_bounds(inputs, unbounded))
    return {dim: _extent(dim, bounds.get(dim), wanted.get(dim), seen.get(dim, [])) for dim in dims}


def _extent(dim: Dim, bounds: shapes_.Range | None, wanted: int | None, seen: list[int]) -> Extent:
    least, most = bounds or (min(seen), max(seen))
    beyond = [size for size in seen if not least <= size <= most]
    if beyond:
        raise UsageError(
            f"dimension {label(dim)!r} is {beyond[0]} in the data, which is not within "
            f"{least}..{most}; widen its range, or leave such samples out"
        )
    usual = wanted
    if usual is None:
        usual = statistics.median_low(seen) if seen else most
    if not least <= usual <= most:
        raise UsageError(
            f"the usual size {usual} of dimension {label(dim)!r} is not within {least}..{most}"
        )
    return Extent(least, most, usual)


def _sizes_of(inputs: Sequence[ir.Value], sample: Sample) -> dict[Dim, list[int]]:
    """Every size that a dynamic dimension has in a sample."""
    found: dict[Dim, list[int]] = defaultdict(list)
    for value in inputs:
        sizes = np.shape(sample.inputs[value.name or ""])
        for dim, size in zip(shapes_.dims_of(value), sizes, strict=True):
            if not isinstance(dim, int):
                found[dim].append(size)
    return found


def _no_bounds(inputs: Sequence[ir.Value], unbounded: Sequence[Dim]) -> str:
    """Which dimensions lack bounds, and a ``--shape`` that would give them for the first input."""
    value = next(v for v in inputs if set(shapes_.dims_of(v)) & set(unbounded))
    dims = shapes_.dims_of(value)
    ranges = "x".join(str(dim) if isinstance(dim, int) else "1..32" for dim in dims)
    usual = "x".join(str(dim) if isinstance(dim, int) else "8" for dim in dims)
    return (
        f"the engine is built for sizes between bounds, and {', '.join(map(label, unbounded))} "
        f"{'has' if len(unbounded) == 1 else 'have'} none; give smallest, largest and usual size, "
        f"as in --shape {value.name}={ranges}@{usual}, or real inputs with --data"
    )
