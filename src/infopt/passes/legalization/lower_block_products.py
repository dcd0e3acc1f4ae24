"""lower-block-products: products with weights in blocks as one operator of ONNX Runtime's own."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.errors import PipelineError
from infopt.ir import queries
from infopt.passes.base import Preserves
from infopt.passes.matching import either_way, input_at, produced_by, rank
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes
from infopt.quant.packing import PackedWeight, pack_matmul_nbits

RULE = "block-products"
LEVELS = (0, 1, 4)
_BITS = {
    ir.DataType.INT4: 4,
    ir.DataType.UINT4: 4,
    ir.DataType.INT8: 8,
    ir.DataType.UINT8: 8,
}
_ROOM = 1 << 20
"""Elements packed at once: what that takes beside the result does not grow with the weight."""


@dataclasses.dataclass(frozen=True)
class LowerBlockProducts(Rewrite):
    """``MatMul(x, DequantizeLinear<block_size>(W)) + b`` becomes ``com.microsoft.MatMulNBits``.

    So does Gemm. The operator reads the integers as they are, where a DequantizeLinear would write
    out all weights as floats in each run. At ``accuracy_level`` 0 or 1 it computes with floats; at
    4 it rounds each block of the activations to 8 bits, too, and multiplies integers: faster, and
    no longer exact. That is an error of about 0.5 % where the values of a block are alike, more
    where one of them is much larger than the others.
    """

    name: ClassVar[str] = "lower-block-products"
    preserves: ClassVar[Preserves] = Preserves.APPROXIMATE
    tolerance: ClassVar[float] = 0.0
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul", "Gemm"})
    min_opset: ClassVar[int] = 21

    accuracy_level: int = 0
    """0 and 1: floats; 4: activations as 8-bit integers in blocks."""
    biases: bool = True
    """Whether the operator adds a constant bias, too."""

    def __post_init__(self) -> None:
        if self.accuracy_level not in LEVELS:
            raise PipelineError(
                f"MatMulNBits has no accuracy level {self.accuracy_level}; use one of 0, 1 and 4"
            )

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        read = produced_by(node.inputs[1], "DequantizeLinear")
        block = 0 if read is None else queries.attribute(read, "block_size", 0)
        x = node.inputs[0]
        if read is None or not block or x is None:
            return None
        if queries.attribute(node, "alpha", 1.0) != 1.0 or queries.attribute(node, "transA", 0):
            return Miss(RULE, "it scales the product or transposes its input")
        if (rank(x) or 0) < 2:
            return Miss(RULE, f"its input has rank {rank(x)}, not 2 or more")
        axis = 1 if queries.attribute(node, "transB", 0) else 0  # of the inputs
        shape = queries.static_shape(read.inputs[0])
        if shape is None or len(shape) != 2 or queries.attribute(read, "axis", 1) % 2 != axis:
            return Miss(RULE, "its weights are no matrix in blocks along its inputs")
        weights = read.inputs[0]
        if any(v is not None and queries.constant_tensor(v) is None for v in read.inputs):
            return Miss(RULE, "its weights or their scales are computed at run time")
        bits = None if weights is None or weights.dtype is None else _BITS.get(weights.dtype)
        if bits is None:
            return Miss(RULE, "its weights are neither of 4 nor of 8 bits")
        if block < 16 or block & (block - 1):
            return Miss(RULE, f"its blocks of {block} are no power of two of at least 16")
        added = self._added(node, shape[1 - axis])
        if isinstance(added, Miss):
            return added
        bias, rest, last = added

        def build(to: Builder) -> ir.Value:
            packed, plain = _pack(read, axis, block)
            product = to.op(
                "MatMulNBits",
                x,
                to.constant(packed.b, "weights"),
                to.constant(packed.scales, "scales"),
                None if plain else to.constant(packed.zero_points, "zero_points"),
                None,
                bias,
                domain="com.microsoft",
                like=last if rest is None else node.outputs[0],
                K=shape[axis],
                N=shape[1 - axis],
                bits=bits,
                block_size=block,
                accuracy_level=self.accuracy_level,
            )
            return product if rest is None else to.op("Add", product, rest, like=last)

        return Found(RULE, build, (last,))

    def _added(
        self, node: ir.Node, columns: int
    ) -> tuple[ir.Value | None, ir.Value | None, ir.Value] | Miss:
        """The bias for the operator, what is added behind it, and the value that is the result."""
        product, added = node.outputs[0], input_at(node, 2)
        if added is not None:
            if queries.attribute(node, "beta", 1.0) != 1.0:
                return Miss(RULE, "it scales what it adds")
            bias = self.biases and _is_bias(added, columns)
            return (added, None, product) if bias else (None, added, product)
        uses = list(product.uses())
        if not self.biases or len(uses) != 1 or product.is_graph_output():
            return None, None, product
        reader = uses[0].node
        if reader.graph is node.graph and queries.is_standard(reader, "Add"):
            for value, other in either_way(reader):
                if value is product and _is_bias(other, columns):
                    return other, None, reader.outputs[0]
        return None, None, product


def _is_bias(value: ir.Value, columns: int) -> bool:
    constant = queries.constant_tensor(value) is not None
    return constant and queries.static_shape(value) == (columns,)


def _pack(read: ir.Node, axis: int, block: int) -> tuple[PackedWeight, bool]:
    """What a DequantizeLinear reads as the operator takes it; whether zero points may be left out.

    They may where all of them lie in the middle of the range.
    """
    weights, scale = (queries.constant(value) for value in read.inputs[:2])
    zero = queries.constant(input_at(read, 2))
    assert weights is not None
    assert scale is not None
    assert read.inputs[0] is not None
    kind = read.inputs[0].dtype
    assert kind is not None
    bits = _BITS[kind]
    if zero is None:
        zero = np.zeros(scale.shape, weights.dtype)
    if axis == 0:
        weights, scale, zero = weights.T, scale.T, zero.T
    rows = max(1, _ROOM // max(weights.shape[1], 1))
    parts = [
        pack_matmul_nbits(
            weights[start : start + rows],
            scale[start : start + rows],
            zero[start : start + rows],
            bits=bits,
            block=block,
        )
        for start in range(0, max(weights.shape[0], 1), rows)
    ]
    middle = 0 if kind in (ir.DataType.INT4, ir.DataType.INT8) else 2 ** (bits - 1)
    packed = PackedWeight(
        np.concatenate([part.b for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.zero_points for part in parts]),
    )
    return packed, bool(np.all(zero.astype(np.int16) == middle))
