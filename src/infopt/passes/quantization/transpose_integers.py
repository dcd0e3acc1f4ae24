"""transpose-integers: weights are stored the way round in which they are multiplied."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Preserves
from infopt.passes.matching import input_at, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "integers"


@dataclasses.dataclass(frozen=True)
class TransposeIntegers(Rewrite):
    """``Transpose(DequantizeLinear(W))`` becomes ``DequantizeLinear(W transposed)``.

    Quantization is written on purpose, and is not folded: between the integers of a linear layer
    and their product a Transpose remains, that every call computes, and behind which no runtime
    finds the integers.
    """

    name: ClassVar[str] = "transpose-integers"
    preserves: ClassVar[Preserves] = Preserves.EXACT
    tolerance: ClassVar[float] = 0.0
    anchors: ClassVar[frozenset[str]] = frozenset({"Transpose"})

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        read = produced_by(node.inputs[0], "DequantizeLinear")
        integers = None if read is None else queries.constant(read.inputs[0])
        if read is None or integers is None:
            return None
        if queries.attribute(read, "block_size", 0):
            return Miss(RULE, "its weights have scales for blocks")
        rank = integers.ndim
        order = tuple(queries.attribute(node, "perm", tuple(reversed(range(rank)))))
        scale, zero = read.inputs[1], input_at(read, 2)
        several = queries.static_shape(scale) not in ((), (1,))
        axis = order.index(queries.attribute(read, "axis", 1) % rank) if several else None

        def build(to: Builder) -> ir.Value:
            turned = to.constant(np.ascontiguousarray(integers.transpose(order)), "quantized")
            return to.op("DequantizeLinear", turned, scale, zero, like=node.outputs[0], axis=axis)

        return Found(RULE, build)
