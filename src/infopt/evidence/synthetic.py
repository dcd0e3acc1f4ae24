"""Seeded synthetic inputs that respect types, shapes and the ranges that a model needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from infopt.errors import DataError
from infopt.evidence.shapes import Dim, dims_of
from infopt.ir import queries

_TRANSPARENT = (
    "Cast",
    "Identity",
    "Reshape",
    "Unsqueeze",
    "Squeeze",
    "Flatten",
    "Transpose",
    "Expand",
)
_MASK = re.compile(r"mask", re.IGNORECASE)
_LARGEST_INDEX = 1000


def synthesize(
    model: ir.Model, sizes: Mapping[Dim, int], *, seed: int, ragged: bool
) -> dict[str, np.ndarray]:
    """Inputs for every input of ``model`` that has no default.

    Floating-point inputs are standard normal. Integers that index a tensor (token ids into
    an embedding) stay within it; integers that the model compares with constants take one of
    these; masks are ones, or ragged: each row keeps a random prefix.

    Args:
        model: The model.
        sizes: The size of each dynamic dimension.
        seed: The same seed gives the same inputs.
        ragged: Whether masks are ragged.

    Raises:
        DataError: An input of such a size does not fit into memory.
    """
    random = np.random.default_rng(seed)
    inputs: dict[str, np.ndarray] = {}
    for value in required_inputs(model):
        shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in dims_of(value))
        try:
            inputs[value.name or ""] = _draw(value, shape, random, ragged)
        except (MemoryError, ValueError) as error:  # numpy says either, by how much is too much
            raise DataError(
                f"no synthetic input {value.name!r} of shape {list(shape)}: {error}; "
                "give real inputs with --data, or build with --no-verify"
            ) from None
    return inputs


def required_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs of ``model`` that a caller must give: those without a default."""
    return [value for value in model.graph.inputs if not value.is_initializer()]


def _draw(
    value: ir.Value, shape: tuple[int, ...], random: np.random.Generator, ragged: bool
) -> np.ndarray:
    dtype = value.dtype or ir.DataType.FLOAT
    if dtype is ir.DataType.STRING:
        return np.full(shape, "text", dtype=object)
    kind = dtype.numpy()
    if dtype is ir.DataType.BOOL or (_MASK.search(value.name or "") and len(shape) >= 1):
        return _mask(shape, random, ragged).astype(kind)
    if dtype.is_floating_point():
        return random.standard_normal(shape, dtype=np.float32).astype(kind)
    if kind.kind == "c":
        return (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(kind)
    choices = _compared_with(value)
    if choices.size:
        return random.choice(choices, shape).astype(kind)
    low, high = _index_range(value)
    if dtype in (ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT2, ir.DataType.UINT2):
        high = min(high, 1)
    return random.integers(low, high, shape, endpoint=True).astype(kind)


def _mask(shape: tuple[int, ...], random: np.random.Generator, ragged: bool) -> np.ndarray:
    mask = np.ones(shape, dtype=np.int64)
    if ragged and len(shape) >= 2 and shape[-1] > 1:
        lengths = random.integers(1, shape[-1], shape[:-1], endpoint=True)
        mask = (np.arange(shape[-1]) < lengths[..., None]).astype(np.int64)
    return mask


def _index_range(value: ir.Value) -> tuple[int, int]:
    """Smallest and largest integer that is safe at every place where ``value`` is an index."""
    limit = None
    for node, index in _readers(value):
        if queries.is_standard(node, "Gather", "GatherElements") and index == 1:
            data = node.inputs[0]
            axis = int(queries.attribute(node, "axis", 0))
            if data is not None and data.shape is not None and len(data.shape):
                size = data.shape[axis]
                if isinstance(size, int):
                    limit = size - 1 if limit is None else min(limit, size - 1)
        elif queries.is_standard(node, "OneHot") and index == 0:
            depth = queries.constant(node.inputs[1])
            if depth is not None:
                limit = int(depth.ravel()[0]) - 1
    if limit is None:
        # Not an index as far as can be seen: small, and never zero, which often means "none".
        return 1, 8
    return 0, max(0, min(limit, _LARGEST_INDEX))


def _compared_with(value: ir.Value) -> np.ndarray:
    """The constants that the model compares ``value`` with for equality (a sampling rate, say)."""
    found: list[np.ndarray] = []
    for node, index in _readers(value):
        if queries.is_standard(node, "Equal"):
            other = queries.constant(node.inputs[1 - index])
            if other is not None and other.size == 1 and other.dtype.kind in "iu":
                found.append(other.ravel())
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Every node that reads the elements of ``value``, directly or through mere reshaping."""
    pending, seen = [value], {id(value)}
    while pending:
        for use in pending.pop().uses():
            yield use.node, use.idx
            if queries.is_standard(use.node, *_TRANSPARENT) and use.idx == 0:
                output = use.node.outputs[0]
                if id(output) not in seen:
                    seen.add(id(output))
                    pending.append(output)
