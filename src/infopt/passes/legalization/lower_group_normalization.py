"""lower-group-normalization: normalization of groups as that of the channels of another shape."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "group-normalization"


@dataclasses.dataclass(frozen=True)
class LowerGroupNormalization(Rewrite):
    """``GroupNormalization(x, w, b)`` becomes an ``InstanceNormalization`` between two Reshapes.

    A channel of the InstanceNormalization is a group then: (batch, groups, rest). Weight and bias
    for each channel of ``x`` follow as a Mul and an Add.
    """

    name: ClassVar[str] = "lower-group-normalization"
    anchors: ClassVar[frozenset[str]] = frozenset({"GroupNormalization"})
    min_opset: ClassVar[int] = 21

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        x, count = node.inputs[0], sizes.rank(node.inputs[0])
        if x is None or count is None:
            return Miss(RULE, "the rank of its input is known only at run time")
        if x.dtype != ir.DataType.FLOAT:
            return Miss(RULE, f"it takes {x.dtype}, of which there is no InstanceNormalization")
        if queries.attribute(node, "stash_type", 1) != ir.DataType.FLOAT:
            return Miss(RULE, "it is computed in another type than float32")
        groups: int = node.attributes["num_groups"].as_int()

        def build(to: Builder) -> ir.Value:
            parts = to.op("Reshape", x, to.constant(np.array([0, groups, -1]), "parts"))
            same = [to.constant(np.full(groups, n, np.float32), "same") for n in (1.0, 0.0)]
            epsilon = queries.attribute(node, "epsilon", 1e-5)
            inner = to.op("InstanceNormalization", parts, *same, like=parts, epsilon=epsilon)
            result = to.op("Reshape", inner, to.op("Shape", x), like=x)
            axes = to.constant(np.arange(1, count - 1), "axes")
            for op_type, value in zip(("Mul", "Add"), node.inputs[1:3], strict=True):
                result = to.op(op_type, result, to.op("Unsqueeze", value, axes), like=x)
            return result

        return Found(RULE, build)
