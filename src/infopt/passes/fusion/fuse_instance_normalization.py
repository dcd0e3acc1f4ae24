"""fuse-instance-normalization: normalization of each channel over space as one operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._normalization import (
    centered,
    ending,
    normalized,
    over_space,
    per_channel,
)
from infopt.passes.matching import size
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "instance-normalization"


@dataclasses.dataclass(frozen=True)
class FuseInstanceNormalization(Fusion):
    """``d / sqrt(mean(d ** 2) + epsilon) * weight + bias`` becomes ``InstanceNormalization``.

    Here ``d`` is ``x - mean(x)``, ``x`` has shape (batch, channels, …), and both means run over
    all axes behind the channels, of which there are at least two (with one, it is the
    normalization of a last axis). Weight and bias have one number for each channel; where none
    follow, they are constants of one and zero (Ulyanov et al., arXiv:1607.08022).
    """

    name: ClassVar[str] = "fuse-instance-normalization"
    anchors: ClassVar[frozenset[str]] = frozenset({"Mul", "Div"})

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        found = normalized(node)
        origin = None if found is None else centered(found[0])
        if found is None or origin is None:
            return None
        (x, mean), (_, variance, epsilon) = origin, found
        axes = sizes.rank(x)
        if axes is None or not over_space(x, mean, variance):
            return None
        channels = size(x, 1)
        if channels is None:
            return Miss(RULE, "the number of channels is known only at run time")
        if x.dtype != ir.DataType.FLOAT:
            return Miss(RULE, f"it is computed in {x.dtype}, not in float32")
        end = ending(x, node, per_channel(channels, axes))

        def build(to: Builder) -> ir.Value:
            weights = end.constants(to, (channels,), both=True)
            return to.op("InstanceNormalization", x, *weights, like=end.output, epsilon=epsilon)

        return Found(RULE, build, (end.output,))
