"""inline-functions: write what functions compute where they are called."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries, shapes
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor, called_functions


@dataclasses.dataclass(frozen=True)
class InlineFunctions(Pass):
    """A call of a model-local function becomes the nodes of the function.

    ``y = local.Twice(x)`` becomes ``y = Add(x, x)``: attributes of the call take the place of
    the parameters that refer to them, values are renamed where their names are taken, and the
    types and shapes that a function body cannot carry are inferred. A function that is called
    no more is removed.
    """

    name: ClassVar[str] = "inline-functions"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Inline the calls of the main graph, and those that come to light thereby."""
        editor = Editor(model)
        inlined: set[ir.OperatorIdentifier] = set()
        pending = list(model.graph.all_nodes())[::-1]
        while pending:
            node = pending.pop()
            function = model.functions.get(node.op_identifier())
            if function is None or node.graph is None:
                continue
            reason = _why_not(model, node, function)
            if reason is not None:
                journal.refuse("inline", node, reason)
            elif journal.permits("inline", node):
                pending += _inline(model, node, function, editor)[::-1]
                inlined.add(function.identifier())
        for identifier in inlined - called_functions(model):
            del model.functions[identifier]
        if inlined:
            shapes.infer_shapes(model)


def _why_not(model: ir.Model, node: ir.Node, function: ir.Function) -> str | None:
    for domain, version in function.opset_imports.items():
        ours = model.opset_imports.get(domain, version)
        if ours != version:
            return (
                f"the function speaks opset {version} of {domain or 'ai.onnx'!r}, "
                f"the model {ours}; convert one of them"
            )
    reached: set[ir.OperatorIdentifier] = set()
    pending = [function]
    while pending:
        for inner in pending.pop().all_nodes():
            called = inner.op_identifier()
            if called == function.identifier():
                return "the function calls itself"
            if called in model.functions and called not in reached:
                reached.add(called)
                pending.append(model.functions[called])
    if any(True for _ in queries.subgraphs_of(node)):
        return "a graph is passed to the function"
    return None


def _inline(model: ir.Model, node: ir.Node, function: ir.Function, editor: Editor) -> list[ir.Node]:
    """Replace ``node``, a call of ``function``; returns all nodes that take its place."""
    graph = node.graph
    assert graph is not None
    for domain, version in function.opset_imports.items():
        model.opset_imports.setdefault(domain, version)
    body = function.clone()
    attributes = {
        attr.name: attr for attr in body.attributes.values() if attr.value is not None
    } | dict(node.attributes)
    everything = list(body.all_nodes())
    for inner in everything:
        _bind_attributes(inner, attributes)
        for value in inner.outputs:
            if value.name:
                value.name = editor.fresh_name(value.name)
        for subgraph in queries.subgraphs_of(inner):
            for value in [*subgraph.inputs, *subgraph.initializers.values()]:
                value.name = editor.fresh_name(value.name or "value")
        if node.name and inner.name:
            inner.name = f"{node.name}/{inner.name}"
        inner.metadata_props.update({**node.metadata_props, **inner.metadata_props})
    results = list(body.outputs)
    body.outputs.clear()
    for index, formal in enumerate(body.inputs):
        actual = node.inputs[index] if index < len(node.inputs) else None
        results = [actual if value is formal and actual else value for value in results]
        for user, position in formal.uses():
            user.replace_input_with(position, actual)
    nodes = list(body)
    body.remove(nodes)
    graph.insert_before(node, nodes)
    editor.splice(node, results)
    return everything


def _bind_attributes(node: ir.Node, attributes: dict[str, ir.Attr]) -> None:
    """Put the attributes of the call, or their defaults, in place of references to them."""
    for name, attr in list(node.attributes.items()):
        if not attr.is_ref():
            continue
        given = attributes.get(attr.ref_attr_name or "")
        if given is None:
            node.attributes.pop(name)
        elif given.is_ref():
            node.attributes[name] = ir.RefAttr(name, given.ref_attr_name or "", given.type)
        else:
            node.attributes[name] = ir.Attr(name, given.type, given.value)
