"""lower-swish: the sigmoid-weighted linear unit as ONNX Runtime's own operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.rewriting import Answer, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclasses.dataclass(frozen=True)
class LowerSwish(Rewrite):
    """``Swish<alpha>(x)`` becomes ``com.microsoft.QuickGelu<alpha>(x)``.

    Both are ``x * sigmoid(alpha * x)``. ONNX Runtime has a kernel for the second only, and runs
    the first as its parts.
    """

    name: ClassVar[str] = "lower-swish"
    anchors: ClassVar[frozenset[str]] = frozenset({"Swish"})

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        x = node.inputs[0]
        if x is None or x.dtype not in FLOATS:
            return Miss("swish", f"QuickGelu does not take {None if x is None else x.dtype}")
        alpha = queries.attribute(node, "alpha", 1.0)
        return Found(
            "swish",
            lambda to: to.op(
                "QuickGelu", x, domain="com.microsoft", like=node.outputs[0], alpha=alpha
            ),
        )
