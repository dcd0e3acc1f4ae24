"""fuse-layer-normalization: layer normalization as one operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._normalization import centered, channels, following, normalized
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes


@dataclasses.dataclass(frozen=True)
class FuseLayerNormalization(Fusion):
    """``d / sqrt(mean(d ** 2) + epsilon) * weight + bias`` becomes ``LayerNormalization``.

    Here ``d`` is ``x - mean(x)``, and both means run over the last axis. Where no constant
    weight follows, the weight is a constant of ones (Ba, Kiros and Hinton, arXiv:1607.06450).
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
        length = channels(x, mean, variance)
        if isinstance(length, str):
            return Miss(rule, length)
        weighted, weight = following(node, "Mul", length)
        last = weighted or node
        biased, bias = following(last, "Add", length)
        output = (biased or last).outputs[0]

        def build(to: Builder) -> Sequence[ir.Value]:
            scale = weight or to.constant(np.ones(length, np.float32), "ones")
            result = to.op(
                "LayerNormalization",
                x,
                scale,
                *([bias] if bias else []),
                like=output,
                axis=-1,
                epsilon=epsilon,
                stash_type=1,
            )
            return [result]

        return Found(rule, build, (output,))
