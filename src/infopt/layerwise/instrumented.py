"""A copy of a model that shows values from its inside, part by part, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.backends.base import Session
from infopt.evidence.equivalence import Inputs
from infopt.ir import queries
from infopt.ir.parts import Cut, cut, extracted, may_pass, reads
from infopt.ir.settle import settle_shapes

MOST = 32
"""Values that one part shows at most."""
MOST_BYTES = 64 << 20
"""Bytes of the values that one part shows, as far as their sizes are known; one is always shown."""


class Instrumented:
    """A model cut into parts, each of which returns what is to be seen in it.

    Each node is computed once a sample. Held at a time are the values that later parts read, and
    those that one part shows: no graph returns all of its values at once.
    """

    def __init__(
        self,
        model: ir.Model,
        shown: Collection[ir.Value],
        inputs: Inputs,
        open_part: Callable[[ir.Model, Path], Session],
        room: Path,
    ) -> None:
        """Cut the model, and load its parts.

        Args:
            model: The model; functions are not looked into.
            shown: What is to be seen of its main graph.
            inputs: A sample of usual size, by which the parts are cut.
            open_part: Compiles a part into an empty directory and loads it.
            room: An empty directory.
        """
        nodes = list(model.graph)
        borders = _borders(nodes, set(shown), _sizes(model, inputs))
        names = {value.name for value in shown}
        self._parts: list[tuple[Session, Cut, tuple[str, ...]]] = []
        for number, piece in enumerate(cut(nodes, borders, {*shown, *model.graph.outputs})):
            place = room / str(number)
            place.mkdir(parents=True)
            session = open_part(extracted(model, piece.inputs, piece.outputs), place)
            self._parts.append((session, piece, tuple(n for n in piece.outputs if n in names)))
        self._last = {
            name: number
            for number, (_, piece, _) in enumerate(self._parts)
            for name in piece.inputs
        }

    def __len__(self) -> int:
        """How many parts there are."""
        return len(self._parts)

    def run(self, inputs: Inputs) -> Iterator[Mapping[str, Any]]:
        """What each part shows, in order."""
        known: dict[str, Any] = dict(inputs)
        for number, (session, piece, names) in enumerate(self._parts):
            # An input with a default need not be given.
            outputs = session({name: known[name] for name in piece.inputs if name in known})
            known.update(outputs)
            yield {name: outputs[name] for name in names}
            del outputs
            known = {name: v for name, v in known.items() if self._last.get(name, -1) > number}


def _borders(
    nodes: Sequence[ir.Node], shown: set[ir.Value], sizes: Mapping[str | None, int]
) -> list[int]:
    """Before which nodes to cut, so that no part shows too much."""
    barred = _barred(nodes)
    found: list[int] = []
    count = held = 0
    for index, node in enumerate(nodes):
        mine = [value for value in node.outputs if value in shown]
        size = sum(sizes.get(value.name, 0) for value in mine)
        full = count and (count + len(mine) > MOST or held + size > MOST_BYTES)
        if full and not barred[index]:
            found.append(index)
            count = held = 0
        count, held = count + len(mine), held + size
    return found


def _barred(nodes: Sequence[ir.Node]) -> list[bool]:
    """Before which nodes no border can be: what is no plain tensor is needed behind it."""
    made = {value: index for index, node in enumerate(nodes) for value in node.outputs}
    barred = [False] * (len(nodes) + 1)
    for index, node in enumerate(nodes):
        for value in reads(node):
            if value in made and not may_pass(value):
                for at in range(made[value] + 1, index + 1):
                    barred[at] = True
    return barred


def _sizes(model: ir.Model, inputs: Inputs) -> dict[str | None, int]:
    """The bytes of each value, where they follow from the sizes of ``inputs``."""
    copy = model.clone()
    for value in copy.graph.inputs:
        given = inputs.get(value.name or "")
        if given is not None:
            value.shape = ir.Shape(given.shape)
    for node in copy.graph:
        for output in node.outputs:
            if output.shape is not None and not output.shape.is_static():
                output.shape = ir.Shape([d if isinstance(d, int) else None for d in output.shape])
    settle_shapes(copy)
    sizes = {}
    for node in copy.graph:
        for output in node.outputs:
            shape = queries.static_shape(output)
            if shape is not None and output.dtype is not None:
                sizes[output.name] = int(np.prod(shape, dtype=np.int64) * output.dtype.itemsize)
    return sizes
