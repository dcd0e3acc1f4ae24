"""Edits that leave a graph whole: names stay unique, graph outputs keep theirs, nothing dangles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from infopt.ir import queries

_STANDS_FOR = "infopt.stands_for"


def stands_for(value: ir.Value) -> str:
    """The name of the first value in whose place ``value`` was put; its own where it is original.

    Both have the same elements in the same order, if perhaps in another shape. It is kept in the
    metadata of the value, so that it is still known when an engine is read back.
    """
    return value.metadata_props.get(_STANDS_FOR) or value.name or ""


def _let_stand_for(new: ir.Value, name: str) -> None:
    """Remember what ``new`` stands for, and so does what it is a mere reshape of."""
    value: ir.Value | None = new
    while value is not None:
        value.metadata_props.setdefault(_STANDS_FOR, name)
        producer = value.producer()
        reshapes = producer is not None and queries.is_standard(producer, *_RESHAPING)
        value = producer.inputs[0] if producer is not None and reshapes else None


_RESHAPING = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


class Editor:
    """Makes edits in one model.

    Args:
        model: The model that is edited. Its functions matter because a function body cannot
            hold initializers: there a constant is a ``Constant`` node.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._bodies = {id(function.graph) for function in model.functions.values()}
        self._names: set[str] | None = None
        self._counts: dict[str, int] = {}

    def is_function_body(self, graph: ir.Graph) -> bool:
        """Whether ``graph`` is the body of a function, which cannot hold initializers."""
        return id(graph) in self._bodies

    def fresh_name(self, base: str) -> str:
        """A value name that occurs nowhere in the model: ``base``, or ``base_2``, and so on."""
        if self._names is None:
            self._names = set(value_names(self._model))
        # From the last count on: a thousand calls of one function ask for each name of its body.
        name, count = base, self._counts.get(base, 1)
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._counts[base] = count
        self._names.add(name)
        return name

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let everything that reads ``old`` read ``new``, and remove what only ``old`` needed.

        Where ``old`` is a graph output, ``new`` takes its place with its name, type and shape;
        ask :func:`why_irreplaceable` first.
        """
        if new.type is None:
            new.type = old.type
        if new.shape is None and old.shape is not None:
            new.shape = old.shape.copy()
        _let_stand_for(new, stands_for(old))
        if old.is_graph_output():
            name, old.name = old.name, None
            new.name = name
            if old.shape is not None:
                new.shape = old.shape.copy()
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        erase_unused(old)

    def splice(self, node: ir.Node, results: Sequence[ir.Value]) -> None:
        """Let the outputs of ``node`` be ``results``, and remove it.

        A result that cannot stand in the place of a graph output is copied by an Identity.
        """
        graph = node.graph
        assert graph is not None
        for old, result in zip(list(node.outputs), results, strict=False):
            new = result
            if not is_used(old):
                continue
            if why_irreplaceable(old, new) is not None:
                copy = ir.Node("", "Identity", [new], num_outputs=1)
                copy.outputs[0].name = self.fresh_name(f"{old.name}_copy")
                graph.insert_before(node, copy)
                new = copy.outputs[0]
            self.replace(old, new)
        if node.graph is not None:
            erase_unused(*erase_node(node))

    def make_constant(self, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        """Let ``value``, the output of a node, be a constant of the same name instead.

        A node none of whose outputs is read any more is removed.
        """
        node = value.producer()
        assert node is not None
        name, value.name = value.name, None
        assert name is not None
        new = self._constant(node, tensor, name)
        shape = value.shape if value.is_graph_output() else None
        value.replace_all_uses_with(new, replace_graph_outputs=True)
        if shape is not None:
            new.shape = shape.copy()
        erase_unused(value)

    def add_constant(self, before: ir.Node, array: np.ndarray, name: str) -> ir.Value:
        """A new constant, readable by ``before``, called ``name`` or as :meth:`fresh_name` says."""
        return self.add_tensor(before, ir.Tensor(array), name)

    def add_tensor(self, before: ir.Node, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """Like :meth:`add_constant`, for a tensor."""
        return self._constant(before, tensor, self.fresh_name(name))

    def _constant(self, before: ir.Node, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        graph = before.graph
        assert graph is not None
        tensor.name = name
        value = ir.Value(
            name=name,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tensor.shape.numpy()),
        )
        if self.is_function_body(graph):
            attribute = ir.AttrTensor("value", tensor)
            graph.insert_before(before, ir.Node("", "Constant", [], [attribute], outputs=[value]))
        else:
            value.const_value = tensor
            graph.register_initializer(value)
        return value


def operators(names: str) -> frozenset[str]:
    """The operators in a text: names with white space between them."""
    return frozenset(names.split())


def value_names(model: ir.Model) -> list[str]:
    """The name of every value of the model, in all its graphs; a name may occur more than once."""
    names: list[str | None] = []
    for root in queries.graphs(model):
        graph = root.graph if isinstance(root, ir.Function) else root
        names += [value.name for value in graph.inputs]
        names += [value.name for value in graph.initializers.values() if not value.is_graph_input()]
        names += [output.name for node in graph for output in node.outputs]
    return [name for name in names if name]


def why_irreplaceable(old: ir.Value, new: ir.Value) -> str | None:
    """Why ``new`` cannot stand wherever ``old`` stands; ``None`` if it can.

    Only graph outputs are particular: they keep their names, and each is computed in its own
    graph by a node that computes no other output under another name.
    """
    if not old.is_graph_output():
        return None
    here, there = old.producer(), new.producer()
    if there is None or here is None or there.graph is not here.graph:
        return (
            f"the graph output {old.name!r} would be {new.name!r}, which its graph does not compute"
        )
    if new.is_graph_output():
        return f"{old.name!r} and {new.name!r} are both graph outputs; each keeps its name"
    return None


def called_functions(model: ir.Model) -> set[ir.OperatorIdentifier]:
    """The functions that the main graph calls, directly or through others."""
    reached: set[ir.OperatorIdentifier] = set()
    pending: list[queries.GraphLike] = [model.graph]
    while pending:
        for node in pending.pop().all_nodes():
            called = node.op_identifier()
            if called in model.functions and called not in reached:
                reached.add(called)
                pending.append(model.functions[called])
    return reached


def erase_unused(*values: ir.Value | None) -> None:
    """Remove what computes or holds these values, if nothing reads it, and so on upwards.

    Graph inputs and graph outputs stay, and so does an initializer that a caller may override.
    """
    stack = list(values)
    while stack:
        value = stack.pop()
        if value is None or is_used(value) or value.is_graph_input():
            continue
        node = value.producer()
        if node is None:
            if value.is_initializer() and value.graph is not None and value.name is not None:
                value.graph.initializers.pop(value.name)
        elif node.graph is not None and not any(map(is_used, node.outputs)):
            stack += erase_node(node)


def is_used(value: ir.Value) -> bool:
    """Whether a node reads ``value`` or a graph returns it."""
    return value.is_graph_output() or bool(value.uses())


def erase_node(node: ir.Node) -> list[ir.Value]:
    """Remove a node whose outputs nothing reads; returns the values that it has read.

    Values that its subgraphs captured from outside count among them.
    """
    assert node.graph is not None
    read = [value for value in node.inputs if value is not None]
    for graph in queries.subgraphs_of(node):
        for inner in list(graph.all_nodes()):  # gone too, whoever may hold one of them
            for index, value in enumerate(inner.inputs):
                if value is not None:
                    read.append(value)
                    inner.replace_input_with(index, None)
            if inner.graph is not None:
                inner.graph.remove(inner)
    node.graph.remove(node, safe=True)
    return list(dict.fromkeys(read))


RANDOM = operators(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike"
)
"""Operators that draw random numbers: each of their nodes computes something else."""
