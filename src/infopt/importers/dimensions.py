"""Which dimensions of a torch module's inputs are dynamic, and inputs of other sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infopt.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    import torch

Dims = dict[str, dict[int, str]]
"""Input name → {axis: name of the dynamic dimension}."""
Inputs = dict[str, "torch.Tensor"]


def default_name(input_name: str, axis: int) -> str:
    """What a dynamic dimension is called when nobody named it."""
    return "batch" if axis == 0 else f"{input_name}_{axis}"


def chosen(wanted: Mapping[str, Mapping[int, str]], inputs: Inputs) -> Dims:
    """The dynamic dimensions that the user named, checked; negative axes count from the end.

    Raises:
        UsageError: There is no such input or axis, or one name has two sizes.
    """
    dims: Dims = {name: {} for name in inputs}
    for name, axes in wanted.items():
        if name not in inputs:
            known = ", ".join(inputs)
            raise UsageError(
                f"dynamic_shapes names {name!r}, which is no input of the module"
                f"{nearest(name, inputs)}; its inputs: {known}"
            )
        rank = inputs[name].ndim
        for axis, dim in axes.items():
            if not isinstance(axis, int) or not -rank <= axis < rank:
                raise UsageError(
                    f"dynamic_shapes names axis {axis!r} of {name!r}, which has rank {rank}"
                )
            if not isinstance(dim, str) or not dim.isidentifier():
                raise UsageError(
                    f"dynamic_shapes must name axis {axis} of {name!r} with a word, not {dim!r}"
                )
            dims[name][axis % rank] = dim
    sizes_of([inputs], dims)
    return dims


def inferred(sets: Sequence[Inputs]) -> Dims:
    """The dynamic dimensions that examples show.

    Several sets: every dimension in which they differ. One set: the first axis of all
    inputs, if it has the same size in all of them.
    """
    first = sets[0]
    if len(sets) > 1:
        return {
            name: {
                axis: default_name(name, axis)
                for axis in range(tensor.ndim)
                if len({inputs[name].shape[axis] for inputs in sets}) > 1
            }
            for name, tensor in first.items()
        }
    batched = [tensor for tensor in first.values() if tensor.ndim > 0]
    agree = len({tensor.shape[0] for tensor in batched}) == 1
    return {name: {0: "batch"} if agree and t.ndim > 0 else {} for name, t in first.items()}


def consistent(dims: Dims, sets: Sequence[Inputs]) -> Dims:
    """``dims``, with dimensions of one name but different sizes called apart."""
    named: dict[str, tuple[int, ...]] = {}
    result: Dims = {}
    for name, axes in dims.items():
        result[name] = {}
        for axis, dim in axes.items():
            sizes = tuple(inputs[name].shape[axis] for inputs in sets)
            if named.setdefault(dim, sizes) != sizes:
                dim = f"{name}_{axis}"
                named[dim] = sizes
            result[name][axis] = dim
    return result


def sizes_of(sets: Sequence[Inputs], dims: Dims) -> list[dict[str, int]]:
    """The size of each dynamic dimension in each set.

    Raises:
        UsageError: One name stands for two sizes.
    """
    result = []
    for inputs in sets:
        sizes: dict[str, int] = {}
        for name, axes in dims.items():
            for axis, dim in axes.items():
                size = inputs[name].shape[axis]
                if sizes.setdefault(dim, size) != size:
                    raise UsageError(
                        f"dimension {dim!r} is {sizes[dim]} and {size} in the example inputs "
                        f"(axis {axis} of {name!r}); give different dimensions different names"
                    )
        result.append(sizes)
    return result


def resized(inputs: Inputs, dims: Dims, sizes: Mapping[str, int]) -> Inputs:
    """``inputs`` with dynamic dimensions repeated up to ``sizes``; floats differ between repeats.

    Raises:
        DataError: A dimension to repeat is empty.
    """
    import torch

    result: Inputs = {}
    for name, tensor in inputs.items():
        for axis, dim in dims.get(name, {}).items():
            size = tensor.shape[axis]
            wanted = sizes.get(dim, size)
            if wanted == size:
                continue
            if size == 0:
                raise DataError(
                    f"axis {axis} of example input {name!r} is empty; give examples with data"
                )
            pieces = [tensor]
            while sum(piece.shape[axis] for piece in pieces) < wanted:
                last = pieces[-1]
                # The same numbers at other places, so that every value stays a plausible one.
                shift = last.is_floating_point() and last.shape[-1] > 1
                pieces.append(last.roll(1, -1) if shift else last)
            tensor = torch.cat(pieces, axis).narrow(axis, 0, wanted)
        result[name] = tensor.contiguous()
    return result
