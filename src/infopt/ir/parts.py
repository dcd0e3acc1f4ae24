"""A model in parts that run one after the other."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence

import onnx_ir as ir

from infopt.ir import queries


@dataclasses.dataclass(frozen=True)
class Cut:
    """Neighbouring nodes of a graph, and what passes their borders."""

    nodes: tuple[ir.Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def cut(
    nodes: Sequence[ir.Node], borders: Iterable[int], wanted: Collection[ir.Value]
) -> Iterator[Cut]:
    """The parts between ``borders``, in order, but for those that compute nothing that is needed.

    Args:
        nodes: All nodes of a graph, in order.
        borders: Before which nodes to cut, rising.
        wanted: Values that a part returns even where no later one reads them.
    """
    last = {value: index for index, node in enumerate(nodes) for value in reads(node)}
    for start, stop in itertools.pairwise([0, *borders, len(nodes)]):
        inside = nodes[start:stop]
        made = dict.fromkeys(value for node in inside for value in node.outputs)
        read = dict.fromkeys(value for node in inside for value in reads(node))
        inputs = [v.name or "" for v in read if v not in made and not _is_constant(v)]
        outputs = [v.name or "" for v in made if last.get(v, -1) >= stop or v in wanted]
        if outputs:
            yield Cut(tuple(inside), tuple(inputs), tuple(outputs))


def extracted(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> ir.Model:
    """A copy of what computes ``outputs`` from ``inputs``; weights are shared."""
    graph = ir.convenience.extract(model.graph, inputs, outputs)
    for value in graph.inputs:
        value.shape = _without_names(value.shape)
    graph.opset_imports.update(model.opset_imports)
    return ir.Model(graph, ir_version=model.ir_version)


def reads(node: ir.Node) -> Iterable[ir.Value]:
    """What ``node`` reads of its own graph, within graphs of its own, too."""
    yield from (value for value in node.inputs if value is not None)
    for graph in queries.subgraphs_of(node):
        for inner in graph.all_nodes():
            yield from (v for v in inner.inputs if v is not None and v.graph is node.graph)
        yield from (value for value in graph.outputs if value.graph is node.graph)


def may_pass(value: ir.Value) -> bool:
    """Whether a border may be where ``value`` is still needed: an input has a type and a rank."""
    return isinstance(value.type, ir.TensorType) and value.shape is not None


def _is_constant(value: ir.Value) -> bool:
    return value.is_initializer() and not value.is_graph_input()


def _without_names(shape: ir.Shape | None) -> ir.Shape | None:
    """A shape whose dynamic sizes are held to be independent, as they may be in a careless file."""
    if shape is None:
        return None
    return ir.Shape([size if isinstance(size, int) else None for size in shape])
