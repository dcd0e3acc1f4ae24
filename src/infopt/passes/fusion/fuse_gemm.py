"""fuse-gemm: a product and its bias as one operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._heads import length_of
from infopt.passes.fusion._linear import Linear, linear
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "gemm"


@dataclasses.dataclass(frozen=True)
class FuseGemm(Fusion):
    """``x · weights + bias`` with constant weights becomes ``Gemm(x, weights, bias)``.

    Gemm multiplies matrices only. Where ``x`` has more axes, all but the last are made one by a
    Reshape before, and several again by a Reshape behind; between two such layers these meet and
    disappear.
    """

    name: ClassVar[str] = "fuse-gemm"
    anchors: ClassVar[frozenset[str]] = frozenset({"Add"})

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        found = linear(node.outputs[0])
        if found is None or found.bias is None:
            return None
        if found.x.dtype is None or not found.x.dtype.is_floating_point():
            return Miss(RULE, f"it is computed in {found.x.dtype}")
        rank = sizes.rank(found.x)
        if rank is None or rank < 2:
            return Miss(RULE, f"its input has {'an unknown rank' if rank is None else 'rank 1'}")
        if rank == 2:
            x = found.x
            return Found(RULE, lambda to: _gemm(to, x, found))

        def build(to: Builder) -> ir.Value:
            rows = to.constant(np.array([-1, _inputs(found)]), "rows")
            product = _gemm(to, to.op("Reshape", found.x, rows), found)
            result = to.op("Reshape", product, _target(to, found, sizes), like=node.outputs[0])
            sizes.learn_shape(result, sizes.shape(node.outputs[0]) or ())
            return result

        return Found(RULE, build)


def _gemm(to: Builder, x: ir.Value, found: Linear) -> ir.Value:
    return to.op("Gemm", x, found.weights, found.bias)


def _inputs(found: Linear) -> int:
    assert found.weights.shape is not None
    return int(found.weights.shape.numpy()[0])


def _target(to: Builder, found: Linear, sizes: Sizes) -> ir.Value:
    """The shape of the result: that of ``x`` but for the last axis."""
    shape = sizes.shape(found.x) or ()
    leading = shape[:-1]
    if sum(not isinstance(size, int) for size in leading) <= 1 and 0 not in leading:
        entries = [size if isinstance(size, int) else -1 for size in leading]
        return to.constant(np.array([*entries, found.width]), "shape")
    lengths = [length_of(to, sizes, found.x, axis) for axis in range(len(leading))]
    return to.op("Concat", *lengths, to.constant(np.array([found.width]), "width"), axis=0)
