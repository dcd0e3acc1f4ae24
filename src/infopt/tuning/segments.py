"""A model in parts: only the part in which a switch stands, and those behind it, run again."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.backends.base import Backend, RunOptions, Session
from infopt.ir import queries
from infopt.tuning.switches import WHICH

MOST = 8
"""More parts leave less to run again: half a part, on average, of what need not; but nothing is
fused across their borders, and what passes these is copied."""


@dataclasses.dataclass
class Part:
    """Some neighbouring nodes of a switched model, compiled."""

    session: Session
    plain: Session
    """The same without switches, as fast as the runtime makes it."""
    reads: tuple[str, ...]
    numbers: frozenset[int]
    """The switches that stand in it."""


class Parts:
    """A switched model, ready to run: what no switch has changed is computed once a sample."""

    def __init__(
        self,
        board: ir.Model,
        model: ir.Model,
        backend: Backend,
        room: Path,
        options: RunOptions,
        most: int = MOST,
    ) -> None:
        """Compile the parts.

        Args:
            board: What :func:`infopt.tuning.switches.switched` made of ``model``.
            model: The model without switches.
            backend: Whose runtime computes it, on the processor.
            room: An empty directory.
            options: How to run.
            most: So many parts at most.
        """
        self._outputs = [value.name or "" for value in model.graph.outputs]
        self.parts: list[Part] = []
        for index, (inputs, outputs, numbers) in enumerate(_cut(board, most)):
            sessions: list[Session] = []
            for whole, names in ((board, inputs), (model, [n for n in inputs if n != WHICH])):
                place = room / f"{index}-{len(sessions)}"
                place.mkdir()
                backend.compile(_part(whole, names, outputs), place)
                sessions.append(backend.simulate(place, options))
            self.parts.append(Part(sessions[0], sessions[1], tuple(inputs), numbers))
        self._known: dict[str, Any] = {}

    def start(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Take the next sample; returns the outputs with all switches off."""
        self._known = dict(inputs)
        self._known = self._run(0, 0)
        return self._only_outputs(self._known)

    def run(self, number: int) -> dict[str, Any]:
        """The outputs for the sample with switch ``number`` on."""
        # A form that changes nothing has no switch.
        having = (i for i, part in enumerate(self.parts) if number in part.numbers)
        first = next(having, len(self.parts))
        return self._only_outputs(self._run(first, number))

    def _run(self, first: int, number: int) -> dict[str, Any]:
        values = {**self._known, WHICH: np.array(number)}
        for part in self.parts[first:]:
            on = number in part.numbers
            # An input with a default need not be given.
            read = {n: values[n] for n in part.reads if n in values and (on or n != WHICH)}
            values.update((part.session if on else part.plain)(read))
        return values

    def _only_outputs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: values[name] for name in self._outputs}


def _cut(model: ir.Model, most: int) -> Iterator[tuple[list[str], list[str], frozenset[int]]]:
    """What each part reads and returns, in order, and the switches that stand in it."""
    nodes = list(model.graph)
    borders = [0, *_borders(nodes, most), len(nodes)]
    returned = set(model.graph.outputs)
    for start, stop in itertools.pairwise(borders):
        inside = nodes[start:stop]
        made = dict.fromkeys(value for node in inside for value in node.outputs)
        later = {value for node in nodes[stop:] for value in reads(node)}
        read = dict.fromkeys(value for node in inside for value in reads(node))
        inputs = [v.name or "" for v in read if v not in made and not _is_constant(v)]
        outputs = [v.name or "" for v in made if v in later or v in returned]
        if outputs:
            numbers = frozenset(number for node in inside for number in _numbers(node))
            yield inputs, outputs, numbers


def _part(model: ir.Model, inputs: list[str], outputs: list[str]) -> ir.Model:
    graph = ir.convenience.extract(model.graph, inputs, outputs)
    for value in graph.inputs:
        value.shape = _without_names(value.shape)
    graph.opset_imports.update(model.opset_imports)
    return ir.Model(graph, ir_version=model.ir_version)


def _borders(nodes: list[ir.Node], most: int) -> list[int]:
    """Before which nodes to cut: as many switches on each side, and few values in between."""
    places = [index for index, node in enumerate(nodes) if any(_numbers(node))]
    made = {value: index for index, node in enumerate(nodes) for value in node.outputs}
    last: dict[ir.Value, int] = {}
    for index, node in enumerate(nodes):
        last.update((value, index) for value in reads(node) if value in made)
    crossing, barred = [0] * (len(nodes) + 1), [0] * (len(nodes) + 1)
    for value, use in last.items():
        for counts in (crossing,) if _may_pass(value) else (crossing, barred):
            counts[made[value] + 1] += 1
            counts[use + 1] -= 1
    crossing, barred = list(itertools.accumulate(crossing)), list(itertools.accumulate(barred))
    free = [at for at in range(1, len(nodes)) if not barred[at]]
    found: list[int] = []
    count = min(most, len(places))
    for part in range(1, count if free else 0):
        middle = len(places) * part // count
        low, high = places[middle - 1] + 1, places[middle]
        at = min(free, key=lambda at: (max(low - at, at - high, 0), crossing[at]))
        if at > (found[-1] if found else 0):
            found.append(at)
    return found


def reads(node: ir.Node) -> Iterable[ir.Value]:
    """What ``node`` reads of its own graph, within graphs of its own, too."""
    yield from (value for value in node.inputs if value is not None)
    for graph in queries.subgraphs_of(node):
        for inner in graph.all_nodes():
            yield from (v for v in inner.inputs if v is not None and v.graph is node.graph)
        yield from (value for value in graph.outputs if value.graph is node.graph)


def _numbers(node: ir.Node) -> Iterator[int]:
    """The switches that ``node`` asks for, itself or within graphs of its own."""
    for graph in queries.subgraphs_of(node):
        for inner in graph.all_nodes():
            yield from _number(inner)
    yield from _number(node)


def _number(node: ir.Node) -> Iterator[int]:
    if queries.is_standard(node, "Equal") and node.inputs[0] is not None:
        number = queries.constant(node.inputs[1])
        if node.inputs[0].name == WHICH and number is not None:
            yield int(number)


def _is_constant(value: ir.Value) -> bool:
    return value.is_initializer() and not value.is_graph_input()


def _may_pass(value: ir.Value) -> bool:
    """Whether a border may be where ``value`` is still needed: what a switch asks stays with it."""
    producer = value.producer()
    switch = producer is not None and any(_number(producer))
    return not switch and isinstance(value.type, ir.TensorType) and value.shape is not None


def _without_names(shape: ir.Shape | None) -> ir.Shape | None:
    """A shape whose dynamic sizes are held to be independent, as they may be in a careless file."""
    if shape is None:
        return None
    return ir.Shape([size if isinstance(size, int) else None for size in shape])
