"""The one opset that infopt speaks, and the way there."""

from __future__ import annotations

import onnx
import onnx.defs
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir

from infopt.errors import OpsetError
from infopt.ir import queries, scan8, weightless

OPSET = 24
"""Every model inside infopt: the newest opset that ONNX Runtime and TensorRT both implement,
and the first that has Attention, RMSNormalization, RotaryEmbedding, Gelu and Swish together."""

IR_VERSION = 11
"""The ONNX IR version that goes with it (ONNX Runtime 1.31 loads up to 13)."""


def opset_of(model: ir.Model) -> int:
    """The opset of the standard domain that ``model`` imports.

    Raises:
        OpsetError: It imports none although it uses standard operators.
    """
    version = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx"))
    if version is None:
        if any(node.domain == "" for node in queries.nodes(model)):
            raise OpsetError(
                "the model uses standard operators but imports no opset for them; export it again"
            )
        return OPSET
    return version


def convert_opset(model: ir.Model, to: int = OPSET) -> ir.Model:
    """``model`` at opset ``to``: the same object if only the number had to change.

    Operators whose definition changed in between are rewritten by onnx's version converter.

    Raises:
        OpsetError: An operator is unknown, or cannot be expressed at opset ``to``.
    """
    version = opset_of(model)
    _check_known(model, version)
    if version != to and _changed_operators(model, version, to):
        model = _convert(model, version, to)
    for root in queries.roots(model):
        root.opset_imports.pop("ai.onnx", None)
        root.opset_imports[""] = to
    model.ir_version = IR_VERSION
    return model


def _check_known(model: ir.Model, version: int) -> None:
    newest = onnx.defs.onnx_opset_version()
    for root in queries.roots(model):
        opset = root.opset_imports.get("", version)
        if not 1 <= opset <= newest:
            raise OpsetError(f"the model uses opset {opset}; known are 1 to {newest}")
        for node in root.all_nodes():
            if node.domain == "" and node.op_identifier() not in model.functions:
                _schema(node, opset)


def _schema(node: ir.Node, version: int) -> onnx.defs.OpSchema:
    try:
        return onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        raise OpsetError(
            f"node {node.name!r}: opset {version} has no operator {node.op_type!r}; "
            "export the model again with a newer opset, or replace the node"
        ) from None


def _changed_operators(model: ir.Model, version: int, to: int) -> bool:
    """Whether any node has another definition at opset ``to``."""
    kinds: dict[tuple[str, int], ir.Node] = {}
    for root in queries.roots(model):
        opset = root.opset_imports.get("", version)
        for node in root.all_nodes():
            if node.domain == "" and node.op_identifier() not in model.functions:
                kinds.setdefault((node.op_type, opset), node)
    for (op_type, opset), node in kinds.items():
        try:
            after = onnx.defs.get_schema(op_type, to, "").since_version
        except onnx.defs.SchemaError:
            after = -1
        if _schema(node, opset).since_version != after:
            return True
    return False


def _convert(model: ir.Model, version: int, to: int) -> ir.Model:
    if version == 8 and to > 8 and scan8.rewrite(model):
        model = _convert(model, 8, 9)
        scan8.restore(model)
        return _convert(model, 9, to)
    weights = {
        (i, name): value.const_value
        for i, graph in enumerate(_true_graphs(model))
        for name, value in graph.initializers.items()
    }
    try:
        proto = weightless.to_proto(model)
        if model.functions:  # the converter does not look into functions
            proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
        converted = ir.from_proto(onnx.version_converter.convert_version(proto, to))
    except Exception as error:
        # The C++ converter speaks in assertions: "file:line: function: Assertion … failed: why".
        lines = str(error).strip().splitlines() or [repr(error)]
        reason = lines[-1].rpartition("failed: ")[2]
        raise OpsetError(
            f"the model cannot be converted from opset {version} to {to}: {reason}; "
            f"export it again with opset {to}"
        ) from None
    for i, graph in enumerate(_true_graphs(converted)):
        for name, value in graph.initializers.items():
            original = weights.get((i, name))
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = original
    return converted


def _true_graphs(model: ir.Model) -> list[ir.Graph]:
    return [graph for graph in queries.graphs(model) if isinstance(graph, ir.Graph)]
