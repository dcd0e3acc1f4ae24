"""A model in parts: only the part in which a switch stands, and those behind it, run again."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.backends.base import Backend, RunOptions, Session
from infopt.ir import queries
from infopt.ir.parts import cut, extracted, may_pass, reads
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
                backend.compile(extracted(whole, names, outputs), place)
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
    for found in cut(nodes, _borders(nodes, most), set(model.graph.outputs)):
        numbers = frozenset(number for node in found.nodes for number in _numbers(node))
        yield list(found.inputs), list(found.outputs), numbers


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
    for number in range(1, count if free else 0):
        middle = len(places) * number // count
        low, high = places[middle - 1] + 1, places[middle]
        at = min(free, key=lambda at: (max(low - at, at - high, 0), crossing[at]))
        if at > (found[-1] if found else 0):
            found.append(at)
    return found


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


def _may_pass(value: ir.Value) -> bool:
    """Whether a border may be where ``value`` is still needed: what a switch asks stays with it."""
    producer = value.producer()
    switch = producer is not None and any(_number(producer))
    return not switch and may_pass(value)
