"""fuse-residual: the sum behind a Gemm as what the Gemm adds to."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.matching import either_way, input_at, is_read_outside, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "residual"


@dataclasses.dataclass(frozen=True)
class FuseResidual(Fusion):
    """``Gemm(a, W, b) + n`` with ``n = LayerNormalization(…)`` becomes ``Gemm(a, W, n)``.

    The bias ``b`` moves into that of the normalization. What else is made of ``n``, by other
    Gemms only, gets its bias corrected: ``(n + b) · V + (c - b · V)``. A layer of a transformer
    that normalizes after the sum then needs no sum of its own.
    """

    name: ClassVar[str] = "fuse-residual"
    anchors: ClassVar[frozenset[str]] = frozenset({"Add"})
    min_opset: ClassVar[int] = 17
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        for value, residual in either_way(node):
            gemm, normalization = _gemm(value), _normalization(residual)
            if gemm is None or normalization is None or sizes.rank(residual) != 2:
                continue
            if gemm.graph is not node.graph or normalization.graph is not node.graph:
                continue
            if sizes.number(value, 0) == 1 and sizes.number(residual, 0) != 1:
                continue  # the sum has more rows than the product
            if is_read_outside(value, [node]):
                return Miss(RULE, "the product is read elsewhere, too")
            others = _others(node, residual, normalization)
            if isinstance(others, str):
                return Miss(RULE, others)
            return _found(node, gemm, residual, normalization, others)
        return None


def _found(
    node: ir.Node, gemm: ir.Node, residual: ir.Value, normalization: ir.Node, others: list[ir.Node]
) -> Found:
    def build(to: Builder) -> ir.Value:
        bias = _array(input_at(gemm, 2)).astype(np.float64)
        old = input_at(normalization, 2)
        dtype = _array(input_at(gemm, 2)).dtype
        shifted = bias if old is None else bias + _array(old)
        _set_input(normalization, 2, to.constant(shifted.astype(dtype), "shifted"))
        for other in others:
            corrected = _array(input_at(other, 2)) - bias @ _array(input_at(other, 1))
            _set_input(other, 2, to.constant(corrected.astype(dtype), "corrected"))
        result = to.op("Gemm", gemm.inputs[0], gemm.inputs[1], residual, like=node.outputs[0])
        written = result.producer()
        assert written is not None
        written.name = gemm.name  # which is gone now: it is still the product of that layer
        return result

    return Found(RULE, build)


def _gemm(value: ir.Value | None) -> ir.Node | None:
    """The Gemm with constant weights and a constant vector as bias that computes ``value``."""
    node = produced_by(value, "Gemm")
    if node is None or set(node.attributes) - {"transA"}:
        return None
    if queries.attribute(node, "transA", 0):
        return None
    weights, bias = input_at(node, 1), input_at(node, 2)
    width = queries.static_shape(weights)
    if queries.constant_tensor(weights) is None or queries.constant_tensor(bias) is None:
        return None
    return node if width is not None and queries.static_shape(bias) == width[1:] else None


def _normalization(value: ir.Value) -> ir.Node | None:
    """The LayerNormalization that computes ``value``, or of which it is a view as a matrix."""
    reshape = produced_by(value, "Reshape")
    source = value
    if reshape is not None and reshape.inputs[0] is not None:
        source = reshape.inputs[0]
        if is_read_outside(source, [reshape]):
            return None
    node = produced_by(source, "LayerNormalization")
    if node is None or len(node.outputs) > 1:
        return None
    bias = input_at(node, 2)
    return node if bias is None or queries.constant_tensor(bias) is not None else None


def _others(node: ir.Node, residual: ir.Value, normalization: ir.Node) -> list[ir.Node] | str:
    """The other Gemms that read the residual; or why it cannot be shifted."""
    if residual.is_graph_output() or normalization.outputs[0].is_graph_output():
        return "the residual is an output of the graph"
    others: list[ir.Node] = []
    for use in residual.uses():
        if use.node is node:
            continue
        if use.idx != 0 or use.node.graph is not node.graph or _gemm(use.node.outputs[0]) is None:
            return f"the residual is read by {use.node.op_type}, too"
        others.append(use.node)
    return others


def _set_input(node: ir.Node, index: int, value: ir.Value) -> None:
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def _array(value: ir.Value | None) -> np.ndarray:
    array = queries.constant(value)
    assert array is not None
    return array
