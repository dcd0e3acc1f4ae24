"""Optimization profiles: the sizes of each input between which an engine is built to run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from infopt.evidence.extents import Extent
from infopt.evidence.shapes import Dim, dims_of

Sizes = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Range:
    """Shapes of one input."""

    least: Sizes
    usual: Sizes
    """The shape to be fastest at."""
    most: Sizes


def profile(inputs: Sequence[ir.Value], extents: Mapping[Dim, Extent]) -> dict[str, Range]:
    """The range of every input with a dynamic dimension.

    Args:
        inputs: The inputs of the model, each of a known rank.
        extents: Of every dynamic dimension.
    """
    found = {}
    for value in inputs:
        dims = dims_of(value)
        if all(isinstance(dim, int) for dim in dims):
            continue
        known = [Extent(d, d, d) if isinstance(d, int) else extents[d] for d in dims]
        found[value.name or ""] = Range(
            least=tuple(extent.least for extent in known),
            usual=tuple(extent.usual for extent in known),
            most=tuple(extent.most for extent in known),
        )
    return found
