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


def extents_of(model: ir.Model, given: shapes_.Given, data: DataSource | None) -> dict[Dim, Extent]:
    """The extent of every dynamic dimension of a model: see :func:`find_extents`."""
    samples = () if data is None else load_data(data, model)
    wanted, usual = shapes_.as_shapes(given), shapes_.as_usual(given)
    return find_extents(required_inputs(model), wanted, usual, samples)


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
    bounds = shapes_.bind(inputs, shapes)
    wanted = shapes_.bind(
        inputs, {name: [(size, size) for size in sizes] for name, sizes in usual.items()}
    )
    seen = _sizes_of(inputs, samples)
    dims = dict.fromkeys(
        dim for value in inputs for dim in shapes_.dims_of(value) if not isinstance(dim, int)
    )
    unbounded = [dim for dim in dims if dim not in bounds and dim not in seen]
    if unbounded:
        raise UsageError(_no_bounds(inputs, unbounded))
    return {dim: _extent(dim, bounds.get(dim), wanted.get(dim), seen.get(dim, [])) for dim in dims}


def _extent(
    dim: Dim, bounds: shapes_.Range | None, wanted: shapes_.Range | None, seen: list[int]
) -> Extent:
    least, most = bounds or (min(seen), max(seen))
    beyond = [size for size in seen if not least <= size <= most]
    if beyond:
        raise UsageError(
            f"dimension {label(dim)!r} is {beyond[0]} in the data, which is not within "
            f"{least}..{most}; widen its range, or leave such samples out"
        )
    usual = wanted[0] if wanted else statistics.median_low(seen) if seen else most
    if not least <= usual <= most:
        raise UsageError(
            f"the usual size {usual} of dimension {label(dim)!r} is not within {least}..{most}"
        )
    return Extent(least, most, usual)


def _sizes_of(inputs: Sequence[ir.Value], samples: Iterable[Sample]) -> Mapping[Dim, list[int]]:
    """Every size that a dynamic dimension has in the data."""
    seen: dict[Dim, list[int]] = defaultdict(list)
    for sample in samples:
        for value in inputs:
            sizes = np.shape(sample.inputs[value.name or ""])
            for dim, size in zip(shapes_.dims_of(value), sizes, strict=True):
                if not isinstance(dim, int):
                    seen[dim].append(size)
    return seen


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
