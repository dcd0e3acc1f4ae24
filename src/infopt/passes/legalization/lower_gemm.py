"""lower-gemm: a product and its bias as two operators."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import input_at
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "gemm"


@dataclasses.dataclass(frozen=True)
class LowerGemm(Rewrite):
    """``Gemm(x, W, c)`` with constant weights becomes ``Add(MatMul(x, W), c)``.

    A runtime may write what is added into the result first, on one core, before it multiplies on
    all of them; an Add is spread over them, too. Transposed weights are stored the other way
    round.
    """

    name: ClassVar[str] = "lower-gemm"
    anchors: ClassVar[frozenset[str]] = frozenset({"Gemm"})

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        x, weights, added = node.inputs[0], node.inputs[1], input_at(node, 2)
        if x is None or weights is None or queries.constant_tensor(weights) is None:
            return None  # no linear layer
        if queries.attribute(node, "alpha", 1.0) != 1.0 or queries.attribute(node, "transA", 0):
            return Miss(RULE, "it scales the product or transposes its input")
        if added is not None and queries.attribute(node, "beta", 1.0) != 1.0:
            return Miss(RULE, "it scales what it adds")

        def build(to: Builder) -> ir.Value:
            stored = weights
            if queries.attribute(node, "transB", 0):
                array = queries.constant(weights)
                assert array is not None
                stored = to.constant(np.ascontiguousarray(array.T), "weights")
            product = to.op("MatMul", x, stored, like=node.outputs[0])
            return product if added is None else to.op("Add", product, added, like=node.outputs[0])

        return Found(RULE, build)
