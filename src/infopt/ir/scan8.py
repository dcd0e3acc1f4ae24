"""Scan as opset 8 had it, in terms of Scan as it has been since opset 9.

Scan-8 takes a batch in front of everything; Scan-9 does not, and onnx's converter only drops
an input, which leaves another meaning. The batch is itself a scan: an outer Scan over axis 0
of every operand, whose body is the original Scan for one element of the batch.
"""

from __future__ import annotations

import onnx_ir as ir

from infopt.errors import OpsetError
from infopt.ir import queries

_ASIDE = "infopt.scan"
"""Where the new nodes wait while the rest of the model is taken from opset 8 to 9."""


def rewrite(model: ir.Model) -> bool:
    """Rewrite every Scan of ``model``, whose opset is 8, in place; say whether there were any.

    The result uses Scan-9 under another domain, until :func:`restore` is called.

    Raises:
        OpsetError: A Scan has sequence lengths, which Scan-9 cannot express.
    """
    scans = [node for node in queries.nodes(model) if queries.is_standard(node, "Scan")]
    for node in scans:
        _rewrite(node)
    if scans:
        for root in queries.roots(model):
            root.opset_imports[_ASIDE] = 1
    return bool(scans)


def restore(model: ir.Model) -> None:
    """Make the nodes of :func:`rewrite` standard ones, in a model that is at opset 9 now."""
    for node in queries.nodes(model):
        if node.domain == _ASIDE:
            node.domain = ""
    for root in queries.roots(model):
        root.opset_imports.pop(_ASIDE, None)


def _rewrite(node: ir.Node) -> None:
    if node.inputs[0] is not None:
        raise OpsetError(
            f"node {node.name!r}: Scan with sequence lengths exists at opset 8 only; "
            "export the model again with a newer opset"
        )
    operands = node.inputs[1:]
    count = int(node.attributes["num_scan_inputs"].as_int())
    attributes = [ir.AttrInt64("num_scan_inputs", count), node.attributes["body"]]
    if "directions" in node.attributes:
        directions = node.attributes["directions"].as_ints()
        attributes.append(ir.AttrInt64s("scan_input_directions", directions))

    inputs = [_element(value, f"{node.name}_in_{i}") for i, value in enumerate(operands)]
    body = node.attributes["body"].as_graph()
    inner = ir.Node(_ASIDE, "Scan", inputs, attributes, num_outputs=len(node.outputs))
    for i, (value, inside) in enumerate(zip(inner.outputs, body.outputs, strict=True)):
        value.name = f"{node.name}_out_{i}"
        value.type = inside.type
    node.attributes.pop("body")
    per_batch = ir.Graph(inputs, inner.outputs, nodes=[inner], name=f"{node.name}_per_batch")
    outer = ir.Node(
        _ASIDE,
        "Scan",
        operands,
        [ir.AttrInt64("num_scan_inputs", len(operands)), ir.AttrGraph("body", per_batch)],
        num_outputs=len(node.outputs),
        name=node.name,
    )
    graph = node.graph
    assert graph is not None
    graph.insert_before(node, outer)
    names = [value.name for value in node.outputs]
    for old, new in zip(node.outputs, outer.outputs, strict=True):
        new.type, new.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(node.outputs, outer.outputs, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    for name, new in zip(names, outer.outputs, strict=True):
        new.name = name


def _element(value: ir.Value | None, name: str) -> ir.Value:
    """One element of a batched operand: the same without the first axis."""
    assert value is not None
    shape = None if value.shape is None else ir.Shape(value.shape[1:])
    return ir.Value(name=name, type=value.type, shape=shape)
