"""sink-biases: the biases of keys and values go where they cost less."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import either_way, input_at, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "biases"
KEYS, VALUES, MASK, PAST = 1, 2, 3, 4


@dataclasses.dataclass(frozen=True)
class Biased:
    """A product with constant weights and a constant bias for each column."""

    node: ir.Node
    """The Gemm, or the Add behind the MatMul."""
    product: ir.Node
    """The Gemm or the MatMul."""
    index: int
    """Which input of ``node`` the bias is."""

    @property
    def weights(self) -> np.ndarray:
        """Shape (inputs, columns)."""
        return _array(self.product.inputs[1])

    @property
    def bias(self) -> np.ndarray:
        """Shape (columns,)."""
        return _array(self.node.inputs[self.index])

    def without(self, to: Builder) -> ir.Value:
        """The product alone."""
        return to.op(self.product.op_type, *self.product.inputs[:2], like=self.node.outputs[0])


@dataclasses.dataclass(frozen=True)
class SinkBiases(Rewrite):
    """``Attention(q, x·K + k, x·V + v)·W + b`` becomes ``Attention(q, x·K, x·V)·W + (b + v·W)``.

    A bias of the keys adds the same to all scores of a query, and the softmax takes that away
    again: it disappears. A bias of the values comes out of the attention as it went in, since
    the weights of a query sum up to 1: it is added behind the next product. Not so where a mask
    may leave nothing of a row, whose weights are zeros then: beside a mask, values keep theirs.
    """

    name: ClassVar[str] = "sink-biases"
    anchors: ClassVar[frozenset[str]] = frozenset({"Add", "Gemm"})
    min_opset: ClassVar[int] = 23

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        own = _biased(node)
        reader = None if own is None else _reader(node.outputs[0])
        if own is None or reader is None or not queries.is_standard(reader[0], "Attention"):
            return None
        attention, index = reader
        if "q_num_heads" not in attention.attributes or index not in (KEYS, VALUES):
            return None
        if input_at(attention, PAST) is not None or len(attention.outputs) > 1:
            return Miss(RULE, "its keys and values are kept, or its scores are read")
        if index == KEYS:
            if queries.attribute(attention, "softcap", 0.0):
                return Miss(RULE, "the scores are capped, so that the bias is not lost in them")
            return Found(RULE, own.without)
        if input_at(attention, MASK) is not None:
            return Miss(RULE, "a mask may leave nothing of a row")
        behind = _behind(attention)
        if behind is None:
            return Miss(RULE, "no product with a bias follows the attention")

        def build(to: Builder) -> ir.Value:
            heads, groups = (
                int(attention.attributes[name].as_int()) for name in ("q_num_heads", "kv_num_heads")
            )
            wide = np.repeat(own.bias.reshape(groups, -1), heads // groups, axis=0).reshape(-1)
            sunk = behind.bias + wide.astype(np.float64) @ behind.weights
            constant = to.constant(sunk.astype(behind.bias.dtype), "bias")
            behind.node.replace_input_with(behind.index, constant)
            return own.without(to)

        return Found(RULE, build)


def _biased(node: ir.Node) -> Biased | None:
    if node.op_type == "Gemm":
        found = None if node.attributes else Biased(node, node, 2)
    else:
        pairs = [(produced_by(x, "MatMul"), bias) for x, bias in either_way(node)]
        found = next(
            (
                Biased(node, product, list(node.inputs).index(bias))
                for product, bias in pairs
                if product is not None and _reader(product.outputs[0]) is not None
            ),
            None,
        )
    if found is None:
        return None
    weights, bias = found.product.inputs[1], input_at(node, found.index)
    shape = queries.static_shape(weights)
    if queries.constant_tensor(weights) is None or queries.constant_tensor(bias) is None:
        return None
    if shape is None or len(shape) != 2 or queries.static_shape(bias) != shape[1:]:
        return None
    return found


def _reader(value: ir.Value) -> tuple[ir.Node, int] | None:
    """The one place where ``value`` is read, perhaps in another shape: a node and which input."""
    for _ in range(2):
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output() or uses[0].node.graph is not value.graph:
            return None
        node, index = uses[0]
        if not queries.is_standard(node, "Reshape") or index != 0:
            return node, index
        value = node.outputs[0]
    return None


def _behind(attention: ir.Node) -> Biased | None:
    """The product of the result of an attention, if it has a bias."""
    reader = _reader(attention.outputs[0])
    if reader is None or reader[1] != 0:
        return None
    node = reader[0]
    if queries.is_standard(node, "MatMul"):
        reader = _reader(node.outputs[0])
        node = node if reader is None else reader[0]
    return _biased(node) if queries.is_standard(node, "Gemm", "Add") else None


def _array(value: ir.Value | None) -> np.ndarray:
    array = queries.constant(value)
    assert array is not None
    return array
