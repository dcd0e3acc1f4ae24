"""expand-operators: operators that a runtime lacks become what ONNX says they are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import onnx
import onnx.defs
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.cleanup.inline_functions import InlineFunctions
from infopt.passes.editing import operators

RULE = "expand"
DOMAIN = "infopt.expanded"
"""Where the functions live between being made and being inlined."""


WIDENED = operators(
    "Cast CastLike Constant ConstantOfShape Identity Reshape Shape Size Squeeze Transpose Unsqueeze"
)
"""Operators whose newer versions take more types, and otherwise compute what they did."""


@dataclasses.dataclass(frozen=True)
class ExpandOperators(Pass):
    """Each of some standard operators becomes the nodes of its definition.

    ONNX defines many operators as functions of simpler ones (ONNX specification, "Function
    operators"). A runtime without a kernel for one, at the opset that the rest of the model needs,
    has kernels for those.
    """

    name: ClassVar[str] = "expand-operators"
    preserves: ClassVar[Preserves] = Preserves.ROUNDING
    tolerance: ClassVar[float] = 1e-5

    operators: str = "Swish"
    """The operators, joined by ``+``."""
    beside: str = ""
    """Expand them only in models that have one of these, joined by ``+``; empty: in all."""

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Turn the operators into calls of functions, and inline those."""
        wanted, reasons = self.operators.split("+"), self.beside.split("+")
        if self.beside and not any(queries.is_standard(n, *reasons) for n in queries.nodes(model)):
            return
        expand(model, journal, lambda node: queries.is_standard(node, *wanted))


def expand(model: ir.Model, journal: Journal, wanted: Callable[[ir.Node], bool]) -> None:
    """Put the nodes of their definition in the place of all nodes that are ``wanted``."""
    expanded = 0
    for root in queries.roots(model):
        opset = root.opset_imports.get("") or model.opset_imports.get("", 1)
        for node in list(root.all_nodes()):
            if not wanted(node):
                continue
            function = _definition(node, opset)
            if isinstance(function, str):
                journal.refuse(RULE, node, function)
            elif journal.permits(RULE, node):
                _call(model, node, function, expanded)
                expanded += 1
    if expanded:
        InlineFunctions().apply(model, Journal())
        model.opset_imports.pop(DOMAIN, None)


def _call(model: ir.Model, node: ir.Node, function: ir.Function, number: int) -> None:
    _spell_out_defaults(node)
    function.domain, function.name = DOMAIN, f"{node.op_type}_{number}"
    model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = 1
    node.domain, node.op_type = function.domain, function.name


def _definition(node: ir.Node, opset: int) -> ir.Function | str:
    """What ONNX says that ``node`` computes; or why it says nothing."""
    if any(attr.is_ref() for attr in node.attributes.values()):
        return "its attributes are those of a function"
    schema: Any = onnx.defs.get_schema(node.op_type, opset, "")  # its stubs lack the functions
    if schema.has_function:
        version = max(v for v in schema.function_opset_versions if v <= opset)
        data = schema.get_function_with_opset_version(version)
    elif schema.has_context_dependent_function:
        versions = schema.context_dependent_function_opset_versions
        version = max(v for v in versions if v <= opset)
        data = schema.get_context_dependent_function_with_opset_version(
            version, ir.to_proto(node).SerializeToString(), _types(node)
        )
    else:
        return f"ONNX does not define {node.op_type} by other operators"
    if not data:
        return "its types are not known"
    proto = onnx.FunctionProto.FromString(data)
    del proto.output[len(node.outputs) :]  # optional ones, which the body does not compute
    function = ir.from_proto(proto)
    assert isinstance(function, ir.Function)
    changed = {
        inner.op_type
        for inner in function.all_nodes()
        if _since(inner, version) != _since(inner, opset) and inner.op_type not in WIDENED
    }
    if changed:
        names = ", ".join(sorted(changed))
        return f"its definition is of opset {version}, and {names} changed since"
    function.opset_imports[""] = opset
    return function


def _spell_out_defaults(node: ir.Node) -> None:
    """Set the attributes that are not set: the body of a function knows no defaults."""
    schema = onnx.defs.get_schema(node.op_type, onnx.defs.onnx_opset_version(), "")
    for name, attribute in schema.attributes.items():
        if name not in node.attributes and attribute.default_value.name:
            node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)


def _types(node: ir.Node) -> list[bytes]:
    """The types of all inputs; of one that is omitted or not known, an empty one."""
    return [
        b"" if value is None or value.type is None else ir.to_proto(value).type.SerializeToString()
        for value in node.inputs
    ]


def _since(node: ir.Node, opset: int) -> int:
    return int(onnx.defs.get_schema(node.op_type, opset, node.domain).since_version)
