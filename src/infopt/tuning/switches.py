"""One model with a switch for each node: which of several forms of it is computed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.editing import Editor, is_used, value_names

WHICH = "infopt.which"
"""The input that says which switch is on: its number, from 1; 0 for none."""

_Signature = tuple[object, ...]


def switched(model: ir.Model, forms: Iterable[ir.Model]) -> ir.Model:
    """A copy of ``model`` that computes what any of its forms computes, as :data:`WHICH` says.

    Every node that reads something else in a form than in the model becomes an ``If``: the node of
    the form, with what the form has put in front of it, or the node as it was. Only one of the
    two runs, so that a run takes as long as one of the model itself.

    Args:
        model: The model.
        forms: Copies that passes have changed; the first has number 1. One at a time is held.
    """
    board = _Board(model)
    for number, form in enumerate(forms, start=1):
        board.add(form, number)
    return board.model


class _Board:
    """The model while switches are built into it."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model.clone()
        self._editor = Editor(self.model)
        self._known = {
            _key(node): _signature(node) for node in queries.nodes(model) if _key(node) is not None
        }
        self._names = set(value_names(model))
        self._nodes = {_key(node): node for node in queries.nodes(self.model)}
        self._values = _values(self.model)
        self._which = ir.Value(
            name=WHICH, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([])
        )
        self.model.graph.inputs.append(self._which)

    def add(self, form: ir.Model, number: int) -> None:
        """Build in a form, under this number."""
        for node in list(queries.nodes(form)):
            known = self._known.get(_key(node))
            if known is None or known == _signature(node):
                continue
            if any(queries.subgraphs_of(node)):
                self._select_inputs(node, number)
            else:
                self._select(node, number)

    def _select(self, new: ir.Node, number: int) -> None:
        """Let an If compute either ``new`` or the node of its name."""
        old = self._nodes[_key(new)]
        graph = old.graph
        assert graph is not None
        used = [index for index, value in enumerate(old.outputs) if is_used(value)]
        branch = _Branch(self)
        copy = branch.copy(new)
        choice = self._choice(old, number, len(used))
        for index, output in zip(used, choice.outputs, strict=True):
            was = old.outputs[index]
            output.type, output.shape = was.type, None if was.shape is None else was.shape.copy()
            name, was.name = was.name, self._editor.fresh_name(f"{was.name}_float")
            was.replace_all_uses_with(output, replace_graph_outputs=True)
            output.name = name
            self._values[name or ""] = output
        graph.remove(old)
        branch.close(choice, "then", [copy.outputs[index] for index in used])
        _Branch(self, [old]).close(choice, "else", [old.outputs[index] for index in used])
        self._nodes[_key(new)] = choice

    def _select_inputs(self, new: ir.Node, number: int) -> None:
        """The same where a node has graphs of its own, which are not there twice: its inputs."""
        old = self._nodes[_key(new)]
        for index, (value, was) in enumerate(zip(new.inputs, old.inputs, strict=True)):
            if value is None or was is None or value.name == was.name:
                continue
            choice = self._choice(old, number, 1)
            for word, source in (("then", value), ("else", was)):
                branch = _Branch(self)
                result = branch.add("Identity", branch.value(source), was)
                branch.close(choice, word, [result])
            output = choice.outputs[0]
            output.name = self._editor.fresh_name(f"{was.name}_selected")
            output.type, output.shape = was.type, None if was.shape is None else was.shape.copy()
            old.replace_input_with(index, output)

    def _choice(self, before: ir.Node, number: int, outputs: int) -> ir.Node:
        """An If without branches, on whether switch ``number`` is on."""
        graph = before.graph
        assert graph is not None
        constant = self._editor.add_constant(before, np.array(number), "infopt.number")
        equal = ir.Node("", "Equal", [self._which, constant], num_outputs=1)
        on = equal.outputs[0]
        on.name, on.type = self._editor.fresh_name("infopt.on"), ir.TensorType(ir.DataType.BOOL)
        on.shape = ir.Shape([])
        choice = ir.Node("", "If", [on], num_outputs=outputs)
        for node in (equal, choice):
            node.name = self._editor.fresh_name(f"{before.name}/{node.op_type}")
        graph.insert_before(before, [equal, choice])
        return choice

    def known(self, value: ir.Value) -> ir.Value | None:
        """What stands in the switched model for a value that the model has, too."""
        return self._values.get(value.name or "") if value.name in self._names else None

    def fresh_name(self, base: str | None) -> str:
        """A name that no value of the switched model has."""
        return self._editor.fresh_name(base or "value")


class _Branch:
    """Nodes of a form, and its constants, copied into a branch."""

    def __init__(self, board: _Board, nodes: Iterable[ir.Node] = ()) -> None:
        self._nodes = list(nodes)
        self._board = board
        self._constants: list[ir.Value] = []
        self._copies: dict[ir.Value, ir.Value] = {}

    def close(self, choice: ir.Node, word: str, outputs: list[ir.Value]) -> None:
        """Let this be a branch of ``choice``."""
        graph = ir.Graph(
            [],
            outputs,
            nodes=self._nodes,
            initializers=self._constants,
            name=f"{choice.name}/{word}",
        )
        choice.attributes[f"{word}_branch"] = ir.AttrGraph(f"{word}_branch", graph)

    def copy(self, node: ir.Node) -> ir.Node:
        """A copy of ``node``, behind copies of what only the form has."""
        inputs = [None if value is None else self.value(value) for value in node.inputs]
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            list(node.attributes.values()),
            num_outputs=len(node.outputs),
            name=self._board.fresh_name(node.name),
        )
        for value, output in zip(node.outputs, copy.outputs, strict=True):
            output.name, output.type = self._board.fresh_name(value.name), value.type
            output.shape = None if value.shape is None else value.shape.copy()
            self._copies[value] = output
        self._nodes.append(copy)
        return copy

    def value(self, value: ir.Value) -> ir.Value:
        """What stands for a value of the form."""
        known = self._board.known(value)
        if known is not None and known.const_value is value.const_value:
            return known
        if value not in self._copies:
            producer = value.producer()
            if producer is None:
                copy = ir.Value(
                    name=self._board.fresh_name(value.name),
                    type=value.type,
                    shape=value.shape,
                    const_value=value.const_value,
                )
                # In the branch: ONNX Runtime looks for the weights of a kernel beside its node.
                self._constants.append(copy)
                self._copies[value] = copy
            else:
                self.copy(producer)
        return self._copies[value]

    def add(self, op_type: str, value: ir.Value, like: ir.Value) -> ir.Value:
        """The result of one more node."""
        node = ir.Node("", op_type, [value], num_outputs=1, name=self._board.fresh_name(op_type))
        output = node.outputs[0]
        output.name, output.type = self._board.fresh_name(like.name), like.type
        self._nodes.append(node)
        return output


def _key(node: ir.Node) -> str | None:
    """What tells a node from all others, in the model and in its forms."""
    return next((value.name for value in node.outputs if value.name), None)


def _signature(node: ir.Node) -> _Signature:
    """What a node computes of what; tensors are shared by copies of a model."""
    read = (None if v is None else (v.name, id(v.const_value)) for v in node.inputs)
    return (node.domain, node.op_type, *read)


def _values(model: ir.Model) -> dict[str, ir.Value]:
    found: list[ir.Value] = []
    for root in queries.graphs(model):
        graph = root.graph if isinstance(root, ir.Function) else root
        found += [*graph.inputs, *graph.initializers.values()]
        found += [output for node in graph for output in node.outputs]
    return {value.name: value for value in found if value.name}
