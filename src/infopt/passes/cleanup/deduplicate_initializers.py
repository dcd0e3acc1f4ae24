"""deduplicate-initializers: hold equal constants once."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Hashable, Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor, is_used

SAMPLES = 3
"""So many elements tell most constants apart; each costs the pages of a file around it."""
CHUNK_BYTES = 1 << 22
"""How much of two constants is compared at a time."""

Buckets = ChainMap[Hashable, list[ir.Value]]


@dataclasses.dataclass(frozen=True)
class DeduplicateInitializers(Pass):
    """Of initializers with the same type, shape and bytes only the first remains.

    An initializer of a subgraph may give way to one of a graph around it. One that is also a
    graph input is no constant, a caller may override it; one that is a graph output keeps its
    name. Weights are read only where a few of their elements agree, and a few MiB at a time.
    """

    name: ClassVar[str] = "deduplicate-initializers"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Visit the main graph and the graphs nested in it, from the outside."""
        editor = Editor(model)
        for root in queries.roots(model):
            graph = root.graph if isinstance(root, ir.Function) else root
            _visit(graph, ChainMap(), editor, journal)


def _visit(graph: ir.Graph, seen: Buckets, editor: Editor, journal: Journal) -> None:
    # Outputs first: they stay, so that others may give way to them.
    values = sorted(graph.initializers.values(), key=lambda value: not value.is_graph_output())
    for value in values:
        tensor = queries.constant_tensor(value)
        if tensor is None or not is_used(value):
            continue
        key = _fingerprint(tensor)
        alike = seen.get(key, [])
        twin = next((other for other in alike if _equal(tensor, other.const_value)), None)
        if twin is None:
            seen[key] = [*alike, value]
        elif value.is_graph_output():
            journal.refuse("share", value, f"it equals {twin.name!r}, but is a graph output")
        elif journal.permits("share", value):
            editor.replace(value, twin)
    for node in graph:
        for subgraph in queries.subgraphs_of(node):
            _visit(subgraph, seen.new_child(), editor, journal)


def _fingerprint(tensor: ir.TensorProtocol) -> Hashable:
    """Equal for equal tensors, and seldom for others."""
    array = tensor.numpy()
    shape = tuple(tensor.shape)
    picked = [
        array[np.unravel_index(flat, array.shape)]
        for flat in {index * (array.size - 1) // (SAMPLES - 1) for index in range(SAMPLES)}
        if array.size
    ]
    sample = tuple(map(str, picked)) if array.dtype.kind in "OS" else np.array(picked).tobytes()
    return (tensor.dtype, shape, sample)


def _equal(one: ir.TensorProtocol, other: ir.TensorProtocol | None) -> bool:
    """Whether two tensors of the same type and shape are equal, byte for byte."""
    if other is None:
        return False
    if one is other:
        return True
    a, b = one.numpy(), other.numpy()
    if a.dtype.kind in "OS":
        return bool(np.array_equal(a, b))
    return all(np.array_equal(x, y) for x, y in zip(_chunks(a), _chunks(b), strict=True))


def _chunks(array: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.uint8]]:
    """The bytes of ``array``, a bounded piece at a time unless one row is larger."""
    if array.ndim == 0 or array.nbytes <= CHUNK_BYTES:
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return
    rows = max(1, CHUNK_BYTES * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        yield np.ascontiguousarray(array[start : start + rows]).reshape(-1).view(np.uint8)
