"""Nested arguments and results of a torch module, as flat named tensors and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import torch

Leaf = tuple[str, object]

CONSTANTS = (type(None), bool, int, float, str)
"""What may stand among the arguments beside tensors; it becomes part of the model."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """The place of a tensor in a structure whose tensors were taken out."""

    index: int


def leaves(value: object, name: str = "") -> Iterator[Leaf]:
    """Each leaf of nested dicts, dataclasses, tuples and lists, with a name made of its path.

    >>> dict(leaves({"a": 1, "b": [2, 3]}))
    {'a': 1, 'b_0': 2, 'b_1': 3}
    """
    children = _children(value)
    if children is None:
        yield name, value
        return
    for key, child in children:
        yield from leaves(child, f"{name}_{key}" if name else key)


def _children(value: object) -> list[Leaf] | None:
    if isinstance(value, Mapping):
        return [(str(key), child) for key, child in value.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, tuple | list):
        return [(str(index), child) for index, child in enumerate(value)]
    return None


def replace(value: object, new: Callable[[object], object]) -> object:
    """``value`` rebuilt with each leaf replaced by ``new(leaf)``."""
    if isinstance(value, Mapping):
        return {key: replace(child, new) for key, child in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return cast(Any, type(value))(*(replace(child, new) for child in value))
    if isinstance(value, tuple | list):
        return type(value)(replace(child, new) for child in value)
    return new(value)


def take_out(value: object) -> tuple[object, list[torch.Tensor]]:
    """``value`` with each tensor replaced by a :class:`Slot`, and the tensors."""
    import torch

    taken: list[torch.Tensor] = []

    def slot(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        taken.append(leaf)
        return Slot(len(taken) - 1)

    return replace(value, slot), taken


def put_back(value: object, tensors: tuple[torch.Tensor, ...]) -> object:
    """The inverse of :func:`take_out`."""
    return replace(value, lambda leaf: tensors[leaf.index] if isinstance(leaf, Slot) else leaf)


def named_outputs(result: object) -> dict[str, torch.Tensor]:
    """The tensors of what a module returned, by the names that the graph's outputs get.

    Fields and keys keep their names; the only output is called ``output``, those of a tuple
    ``output_0``, ``output_1``, …; ``None`` is left out.

    Raises:
        TypeError: It holds something else than tensors.
    """
    import torch

    named: dict[str, torch.Tensor] = {}
    flat = list(leaves(result))
    for path, leaf in flat:
        if leaf is None:
            continue
        if not isinstance(leaf, torch.Tensor):
            raise TypeError(f"it returns a {type(leaf).__name__}{f' as {path!r}' if path else ''}")
        if path == "" or (path == "0" and len(flat) == 1):
            path = "output"
        if path[0].isdigit():
            path = f"output_{path}"
        while path in named:
            path += "_"
        named[path] = leaf
    return named


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy of ``tensor`` on the CPU, bfloat16 as ``ml_dtypes.bfloat16``."""
    import ml_dtypes
    import torch

    tensor = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.resolve_conj().resolve_neg().numpy()
