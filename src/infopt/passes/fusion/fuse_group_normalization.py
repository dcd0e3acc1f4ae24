"""fuse-group-normalization: normalization of groups of channels as one operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._normalization import Ending, ending, per_channel
from infopt.passes.fusion._weighted import flat
from infopt.passes.matching import input_at, is_read_outside, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "group-normalization"


@dataclasses.dataclass(frozen=True)
class FuseGroupNormalization(Fusion):
    """A normalization between two Reshapes becomes ``GroupNormalization``.

    The first Reshape makes (batch, groups, rest) of (batch, channels, …), what stands between
    normalizes the rest (an InstanceNormalization, or a LayerNormalization over the last axis),
    and the second undoes the first. Weight and bias for each channel follow; where none do, they
    are those for each group, repeated (Wu and He, arXiv:1803.08494).
    """

    name: ClassVar[str] = "fuse-group-normalization"
    anchors: ClassVar[frozenset[str]] = frozenset({"InstanceNormalization", "LayerNormalization"})
    min_opset: ClassVar[int] = 21

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        before = produced_by(node.inputs[0], "Reshape")
        after = _reshape_behind(node.outputs[0])
        x = None if before is None else before.inputs[0]
        if before is None or x is None or after is None:
            return None
        parts, output = before.outputs[0], after.outputs[0]
        axes, channels, groups = sizes.rank(x), sizes.number(x, 1), sizes.number(parts, 1)
        if axes is None or axes < 3 or sizes.rank(parts) != 3 or sizes.rank(output) != axes:
            return None
        if channels is None or groups is None:
            return Miss(RULE, "the number of channels or groups is known only at run time")
        if channels % groups:
            return Miss(RULE, f"{groups} groups of {channels} channels are not of one size")
        if not sizes.agree(x, 0, parts, 0):
            return Miss(RULE, "the first axis is not surely the batch before and after")
        if sum(not sizes.agree(x, axis, output, axis) for axis in range(axes)) > 1:
            return Miss(RULE, "the result does not surely have the shape of the input")
        if is_read_outside(node.outputs[0], [after]):
            return Miss(RULE, "the normalized groups are read elsewhere, too")
        inner = _inner(node, groups)
        if isinstance(inner, str):
            return Miss(RULE, inner)
        end = ending(x, after, per_channel(channels, axes))

        def build(to: Builder) -> ir.Value:
            return to.op(
                "GroupNormalization",
                x,
                *_constants(to, end, inner, channels),
                like=end.output,
                num_groups=groups,
                epsilon=queries.attribute(node, "epsilon", 1e-5),
            )

        return Found(RULE, build, (end.output,))


def _reshape_behind(value: ir.Value) -> ir.Node | None:
    readers = [use.node for use in value.uses() if queries.is_standard(use.node, "Reshape")]
    return readers[0] if len(readers) == 1 else None


def _inner(node: ir.Node, groups: int) -> tuple[np.ndarray, np.ndarray] | str:
    """Weight and bias, one number for each group, of the normalization in between."""
    found = []
    for index, default in ((1, 1.0), (2, 0.0)):
        array = queries.constant(input_at(node, index))
        if array is None:
            if input_at(node, index) is not None:
                return "its weights are not constant"
            array = np.array([default])
        numbers = array.astype(np.float64).reshape(-1)
        if node.op_type == "LayerNormalization" and (numbers != numbers[:1]).any():
            return "its weights differ within a group"
        found.append(numbers if numbers.size == groups else np.full(groups, numbers[0]))
    if node.op_type == "LayerNormalization":
        if queries.attribute(node, "axis", -1) not in (-1, 2):
            return "it does not run over the last axis"
        if len(node.outputs) > 1:
            return "its mean is read, too"
    return found[0], found[1]


def _constants(
    to: Builder, end: Ending, inner: tuple[np.ndarray, np.ndarray], channels: int
) -> list[ir.Value]:
    """``(normalized * a + b) * weight + bias`` as one weight and one bias."""
    a, b = (np.repeat(array, channels // len(array)) for array in inner)
    if (a == 1).all() and (b == 0).all():
        return end.constants(to, (channels,), both=True)
    assert end.source.dtype is not None
    dtype = end.source.dtype.numpy()
    weight, bias = (
        np.full(channels, default) if value is None else flat(value)
        for value, default in ((end.weight, 1.0), (end.bias, 0.0))
    )
    numbers = {"weight": a * weight, "bias": b * weight + bias}
    return [to.constant(array.astype(dtype), name) for name, array in numbers.items()]
