"""fuse-layer-normalization: layer normalization as one operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._normalization import (
    centered,
    channels,
    ending,
    normalized,
    of_length,
    over_space,
)
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes


@dataclasses.dataclass(frozen=True)
class FuseLayerNormalization(Fusion):
    """``d / sqrt(mean(d ** 2) + epsilon) * weight + bias`` becomes ``LayerNormalization``.

    Here ``d`` is ``x - mean(x)``, and both means run over the last axis. In a graph of 16 bits
    all this stands between a Cast to float32 and one back, as the operator computes it. Where no
    constant weight follows, the weight is a constant of ones (Ba, Kiros and Hinton,
    arXiv:1607.06450).
    """

    name: ClassVar[str] = "fuse-layer-normalization"
    anchors: ClassVar[frozenset[str]] = frozenset({"Mul", "Div"})
    min_opset: ClassVar[int] = 17

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        found = normalized(node)
        origin = None if found is None else centered(found[0])
        if found is None or origin is None:
            return None
        rule = "layer-normalization"
        (x, mean), (_, variance, epsilon) = origin, found
        if over_space(x, mean):
            return None  # an InstanceNormalization
        length = channels(x, mean, variance)
        if isinstance(length, str):
            return Miss(rule, length)
        end = ending(x, node, of_length(length), casts=True)

        def build(to: Builder) -> ir.Value:
            return to.op(
                "LayerNormalization",
                end.source,
                *end.constants(to, (length,)),
                like=end.output,
                axis=-1,
                epsilon=epsilon,
                stash_type=1,
            )

        return Found(rule, build, (end.output,))
