"""unpack-projections: one product whose columns are split becomes one product for each part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._linear import linear
from infopt.passes.matching import input_at, is_read_outside, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "projections"


@dataclasses.dataclass(frozen=True)
class Packed:
    """``x · weights + bias``, as a Gemm of matrices or a MatMul and an Add."""

    x: ir.Value
    weights: ir.Value
    bias: ir.Value | None
    result: ir.Value
    gemm: bool

    def part(self, to: Builder, columns: slice) -> ir.Value:
        """The product of some columns."""
        weights = to.constant(np.ascontiguousarray(_array(self.weights)[:, columns]), "weights")
        bias = None
        if self.bias is not None and _array(self.bias)[columns].any():
            bias = to.constant(_array(self.bias)[columns], "bias")
        if self.gemm:
            return to.op("Gemm", self.x, weights, bias)
        product = to.op("MatMul", self.x, weights)
        return product if bias is None else to.op("Add", product, bias)


@dataclasses.dataclass(frozen=True)
class UnpackProjections(Rewrite):
    """``Split(x · W + b)`` along the columns becomes ``x · Wᵢ + bᵢ`` for each part.

    What each part is read as need not be copied out of the whole then. It is what
    ``pack-projections`` does, undone, and what models do that store the weights of queries, keys
    and values as one.
    """

    name: ClassVar[str] = "unpack-projections"
    anchors: ClassVar[frozenset[str]] = frozenset({"Split"})

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        whole = node.inputs[0]
        reshape = produced_by(whole, "Reshape")
        packed = _packed(whole if reshape is None else reshape.inputs[0])
        if whole is None or packed is None:
            return None
        width, count = sizes.number(whole, -1), sizes.rank(whole)
        if count is None or queries.attribute(node, "axis", 0) not in (-1, count - 1):
            return None
        between = [node] if reshape is None else [reshape]
        if is_read_outside(packed.result, between) or is_read_outside(whole, [node]):
            return Miss(RULE, "the product is read as a whole, too")
        if width is None or width != sizes.number(packed.result, -1):
            return Miss(RULE, "the product is reshaped to other columns")
        widths = _widths(node, width)
        if widths is None:
            return Miss(RULE, "how it is split is known only at run time")
        leading = None if reshape is None else _leading(reshape.inputs[1])
        if reshape is not None and leading is None:
            return Miss(RULE, "the shape of the product is computed in a way that is not known")

        def build(to: Builder) -> Sequence[ir.Value]:
            ends = np.cumsum([0, *widths])
            results = []
            for i, output in enumerate(node.outputs):
                part = packed.part(to, slice(ends[i], ends[i + 1]))
                if leading is not None:
                    part = to.op("Reshape", part, _target(to, leading, widths[i]), like=output)
                results.append(part)
            return results

        return Found(RULE, build, tuple(node.outputs))


def _packed(value: ir.Value | None) -> Packed | None:
    found = linear(value)
    if found is not None:
        return Packed(found.x, found.weights, found.bias, found.result, gemm=False)
    node = produced_by(value, "Gemm")
    if node is None or value is None or node.inputs[0] is None or node.attributes:
        return None
    weights, bias = input_at(node, 1), input_at(node, 2)
    shape = queries.static_shape(weights)
    if weights is None or shape is None or queries.constant_tensor(weights) is None:
        return None
    if bias is not None and (
        queries.constant_tensor(bias) is None or queries.static_shape(bias) != shape[1:]
    ):
        return None
    return Packed(node.inputs[0], weights, bias, value, gemm=True)


def _widths(node: ir.Node, width: int) -> list[int] | None:
    given = queries.constant(input_at(node, 1))
    if given is not None:
        return [int(part) for part in given]
    count = len(node.outputs)
    if input_at(node, 1) is not None or width % count:
        return None
    return [width // count] * count


Leading = list[ir.Value] | list[int]


def _leading(target: ir.Value | None) -> Leading | None:
    """All entries of a shape but the last: numbers, or the inputs of the Concat that makes it."""
    array = queries.constant(target)
    if array is not None:
        return [int(entry) for entry in array[:-1]]
    concat = produced_by(target, "Concat")
    if concat is None or queries.static_shape(concat.inputs[-1]) != (1,):
        return None
    return [value for value in concat.inputs[:-1] if value is not None]


def _target(to: Builder, leading: Leading, width: int) -> ir.Value:
    numbers = [entry for entry in leading if isinstance(entry, int)]
    last = to.constant(np.array([*numbers, width]), "shape")
    values = [entry for entry in leading if isinstance(entry, ir.Value)]
    return to.op("Concat", *values, last, axis=0) if values else last


def _array(value: ir.Value) -> np.ndarray:
    array = queries.constant(value)
    assert array is not None
    return array
