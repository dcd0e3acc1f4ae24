"""lift-constants: constants are initializers."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor


@dataclasses.dataclass(frozen=True)
class LiftConstants(Pass):
    """``k = Constant<value_int = 3>()`` becomes an initializer ``k`` of its graph.

    All dense forms are lifted (``value``, ``value_int``, ``value_floats``, ``value_string``…);
    a sparse value stays, and so does a constant in the body of a function, which can hold no
    initializers.
    """

    name: ClassVar[str] = "lift-constants"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Lift every constant of every graph."""
        editor = Editor(model)
        for node in list(queries.nodes(model)):
            if not queries.is_standard(node, "Constant") or node.graph is None:
                continue
            output = node.outputs[0]
            if any(attr.is_ref() for attr in node.attributes.values()):
                journal.refuse("lift", node, "its value is a parameter of the function")
                continue
            tensor = queries.constant_tensor(output)
            if tensor is None:
                journal.refuse("lift", node, "a sparse value stays a node")
            elif editor.is_function_body(node.graph):
                journal.refuse("lift", node, "the body of a function holds no initializers")
            elif journal.permits("lift", node):
                editor.make_constant(output, tensor)
