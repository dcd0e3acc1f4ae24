"""eliminate-dead-code: drop what nothing reads."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import called_functions, erase_node, is_used

_Option = onnx.defs.OpSchema.FormalParameterOption


@dataclasses.dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Nodes, initializers, functions and opset imports that nothing reads disappear.

    So do optional outputs that nothing reads (the mask of a Dropout), and omitted inputs at
    the end of a node's list. Inputs of the graph stay, read or not.
    """

    name: ClassVar[str] = "eliminate-dead-code"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Visit each graph from its end, then what belongs to the model as a whole."""
        while True:
            before = len(journal.changes)
            _remove_functions(model, journal)
            for root in queries.roots(model):
                opset = root.opset_imports.get("") or model.opset_imports.get("", 1)
                _clean(root.graph if isinstance(root, ir.Function) else root, opset, journal)
            if len(journal.changes) == before:
                break
        for root in queries.roots(model):
            _remove_imports(root, model, journal)


def _clean(graph: ir.Graph, opset: int, journal: Journal) -> None:
    for node in reversed(list(graph)):
        if not any(map(is_used, node.outputs)):
            if journal.permits("remove-node", node):
                erase_node(node)
            continue
        if node.domain == "" and onnx.defs.has(node.op_type, opset):
            schema = onnx.defs.get_schema(node.op_type, opset)
            _trim_inputs(node, schema, journal)
            _drop_outputs(node, schema, journal)
        for subgraph in queries.subgraphs_of(node):
            _clean(subgraph, opset, journal)
    for name, value in list(graph.initializers.items()):
        if is_used(value):
            continue
        if value.is_graph_input():
            journal.refuse("remove-initializer", name, "it is also a graph input; inputs stay")
        elif journal.permits("remove-initializer", name):
            graph.initializers.pop(name)


def _trim_inputs(node: ir.Node, schema: onnx.defs.OpSchema, journal: Journal) -> None:
    """Drop omitted inputs at the end of the list, as far as the operator allows."""
    count = len(node.inputs)
    while count > schema.min_input and node.inputs[count - 1] is None:
        count -= 1
    if count < len(node.inputs) and journal.permits("trim-inputs", node):
        node.resize_inputs(count)


def _drop_outputs(node: ir.Node, schema: onnx.defs.OpSchema, journal: Journal) -> None:
    """Drop optional outputs that nothing reads."""
    if node.op_type == "BatchNormalization":
        return  # the number of its outputs decides whether it trains
    if node.op_type == "Attention" and any(node.inputs[4:6]):
        return  # runtimes need a place for the present where there is a past
    unused = [
        output
        for output, formal in zip(node.outputs, schema.outputs, strict=False)
        if output.name and formal.option == _Option.Optional and not is_used(output)
    ]
    if not unused or not journal.permits("drop-outputs", node):
        return
    for output in unused:
        output.name = ""
    count = len(node.outputs)
    while not node.outputs[count - 1].name:
        count -= 1
    node.resize_outputs(count)


def _remove_functions(model: ir.Model, journal: Journal) -> None:
    """Remove the functions that no call reaches from the main graph."""
    reached = called_functions(model)
    for identifier in [each for each in model.functions if each not in reached]:
        if journal.permits("remove-function", model.functions[identifier].name):
            del model.functions[identifier]


def _remove_imports(root: queries.GraphLike, model: ir.Model, journal: Journal) -> None:
    """Remove imports of domains none of whose operators occur; the standard one stays."""
    imports = model.opset_imports if root is model.graph else root.opset_imports
    used = {node.domain for node in root.all_nodes()} | {""}
    for domain in sorted(set(imports) - used):
        if journal.permits("remove-import", domain):
            del imports[domain]
