"""widen-operators: what a runtime lacks in a small type is computed in float32."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor
from infopt.passes.rewriting import Builder

RULE = "widen"


@dataclasses.dataclass(frozen=True)
class WidenOperators(Pass):
    """Each of some operators that computes in ``type`` computes in float32, between casts.

    A runtime may have an operator and a type, and not both together.
    """

    name: ClassVar[str] = "widen-operators"
    preserves: ClassVar[Preserves] = Preserves.ROUNDING
    tolerance: ClassVar[float] = 2**-7
    """The result is rounded once; what the operator itself would have rounded is not."""

    operators: str = "ConvTranspose+HardSwish+Mish"
    """The operators, joined by ``+``."""
    type: str = "bfloat16"
    """The type that they are not to compute in."""

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Put casts around the operators."""
        wanted, narrow = self.operators.split("+"), ir.DataType[self.type.upper()]
        editor = Editor(model)
        for root in queries.roots(model):
            opset = root.opset_imports.get("") or model.opset_imports.get("", 1)
            for node in list(root.all_nodes()):
                if not queries.is_standard(node, *wanted) or node.outputs[0].dtype != narrow:
                    continue
                if any(attr.is_ref() for attr in node.attributes.values()):
                    continue
                if journal.permits(RULE, node):
                    result = _widened(node, Builder(editor, node, opset))
                    editor.replace(node.outputs[0], result)


def _widened(node: ir.Node, to: Builder) -> ir.Value:
    """The result of ``node``, in its type, computed in float32."""
    result = node.outputs[0]
    assert result.dtype is not None
    inputs = [
        value
        if value is None or value.dtype != result.dtype
        else to.op("Cast", value, to=ir.DataType.FLOAT)
        for value in node.inputs
    ]
    attributes = {name: attr.value for name, attr in node.attributes.items()}
    wide = to.op(node.op_type, *inputs, like=result, **attributes)
    wide.type = ir.TensorType(ir.DataType.FLOAT)
    return to.op("Cast", wide, like=result, to=result.dtype)
