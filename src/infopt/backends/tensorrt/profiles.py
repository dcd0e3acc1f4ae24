"""Optimization profiles: the sizes of each input between which an engine is built to run.

An engine has one or several. Each has kernels of its own, that are fastest at its usual sizes; a
call runs in one of them, and sizes that lie in none cannot run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from infopt.errors import DataError
from infopt.evidence.extents import Extent, Extents
from infopt.evidence.shapes import dims_of

Sizes = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Range:
    """Shapes of one input."""

    least: Sizes
    usual: Sizes
    """The shape to be fastest at."""
    most: Sizes

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether ``shape`` lies within."""
        return len(shape) == len(self.least) and all(
            low <= size <= high
            for low, size, high in zip(self.least, shape, self.most, strict=True)
        )

    def distance(self, shape: Sequence[int]) -> float:
        """How far a shape that lies within is from the usual one: 0 there, more beside it.

        Half of a size is as far as twice of it.
        """
        pairs = zip(shape, self.usual, strict=True)
        return sum(abs(math.log(max(size, 1) / max(usual, 1))) for size, usual in pairs)

    def __str__(self) -> str:
        """Return ``[1, 1] to [8, 512]``."""
        return f"{list(self.least)} to {list(self.most)}"


Profile = Mapping[str, Range]
"""Input name → its shapes; of inputs with a dynamic dimension at least."""


def profile(inputs: Sequence[ir.Value], extents: Extents) -> dict[str, Range]:
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


def profile_for(profiles: Sequence[Profile], shapes: Mapping[str, Sequence[int]]) -> int:
    """The number of the profile to run a call in: of those that hold it, the nearest.

    The nearest is the one whose usual shapes differ by the least factors; of equally near ones the
    first.

    Args:
        profiles: Of the engine, in the order in which it was built.
        shapes: Input name → its shape in the call. Inputs that no profile names are fixed.

    Raises:
        DataError: No profile holds all of the shapes; the message says what the engine takes.
    """
    holding = [
        number
        for number, each in enumerate(profiles)
        if all(shapes_.holds(shapes[name]) for name, shapes_ in each.items())
    ]
    if not holding:
        raise DataError(_fits_none(profiles, shapes))
    if len(holding) == 1:
        return holding[0]
    return min(
        holding,
        key=lambda number: sum(
            shapes_.distance(shapes[name]) for name, shapes_ in profiles[number].items()
        ),
    )


def _fits_none(profiles: Sequence[Profile], shapes: Mapping[str, Sequence[int]]) -> str:
    for name in profiles[0]:
        if not any(each[name].holds(shapes[name]) for each in profiles):
            ranges = " or ".join(dict.fromkeys(str(each[name]) for each in profiles))
            return (
                f"input {name!r} has shape {list(shapes[name])}; the engine was built for {ranges}"
            )
    given = ", ".join(f"{name} {list(shapes[name])}" for name in profiles[0])
    known = "; or ".join(
        ", ".join(f"{name} {ranges}" for name, ranges in each.items()) for each in profiles
    )
    return (
        f"no profile of the engine holds these shapes together: {given}; it was built for {known}. "
        "Build it with a profile that does (--profile)"
    )


def as_facts(profiles: Sequence[Profile]) -> list[dict[str, Any]]:
    """Ready for JSON."""
    return [
        {name: dataclasses.asdict(shapes) for name, shapes in each.items()} for each in profiles
    ]
