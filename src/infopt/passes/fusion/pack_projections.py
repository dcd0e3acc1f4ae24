"""pack-projections: queries, keys and values from one product."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._linear import Linear, linear
from infopt.passes.matching import input_at, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "projections"


@dataclasses.dataclass(frozen=True)
class PackProjections(Fusion):
    """Three linear layers of one input before an ``Attention`` become one, and a ``Split``.

    The weights are concatenated. A larger product keeps the cores of a processor busier, and the
    input is read once.
    """

    name: ClassVar[str] = "pack-projections"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul"})
    min_opset: ClassVar[int] = 23
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        attention = _attention(node.outputs[0])
        if attention is None:
            return None
        sources = [_before_rotation(input_at(attention, index)) for index in range(3)]
        parts = [found for found in map(linear, sources) if found is not None]
        if len(parts) < 3:
            return None
        if any(part.x is not parts[0].x for part in parts):
            return Miss(RULE, "queries, keys and values are not made of the same input")
        if any(part.result.is_graph_output() for part in parts):
            return Miss(RULE, "a projection is an output of the graph")
        if len({part.result for part in parts}) < 3:
            return None
        if any(part.result.graph is not node.graph for part in parts):
            return None

        def build(to: Builder) -> Sequence[ir.Value]:
            return _packed(to, parts)

        return Found(RULE, build, tuple(part.result for part in parts))


def _packed(to: Builder, parts: Sequence[Linear]) -> Sequence[ir.Value]:
    weights = np.concatenate([_array(part.weights) for part in parts], axis=1)
    product = to.op("MatMul", parts[0].x, to.constant(weights, "weights"))
    if any(part.bias is not None for part in parts):
        bias = [
            np.zeros(part.width, weights.dtype) if part.bias is None else _array(part.bias)
            for part in parts
        ]
        product = to.op("Add", product, to.constant(np.concatenate(bias), "bias"))
    widths = to.constant(np.array([part.width for part in parts]), "widths")
    like = [part.result for part in parts]
    return to.ops("Split", product, widths, like=like, axis=-1)


def _array(value: ir.Value) -> np.ndarray:
    array = queries.constant(value)
    assert array is not None
    return array


def _attention(value: ir.Value) -> ir.Node | None:
    """The Attention of rank 3 that reads ``value``, through a bias and a rotation perhaps."""
    for _ in range(3):
        readers = [use.node for use in value.uses()]
        found = [node for node in readers if queries.is_standard(node, "Attention")]
        if found:
            return found[0] if "q_num_heads" in found[0].attributes else None
        if len(readers) != 1 or not queries.is_standard(readers[0], "Add", "RotaryEmbedding"):
            return None
        value = readers[0].outputs[0]
    return None


def _before_rotation(value: ir.Value | None) -> ir.Value | None:
    rotation = produced_by(value, "RotaryEmbedding")
    return value if rotation is None else rotation.inputs[0]
