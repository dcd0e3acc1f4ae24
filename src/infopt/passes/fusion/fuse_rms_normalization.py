"""fuse-rms-normalization: root mean square normalization as one operator."""

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
class FuseRmsNormalization(Fusion):
    """``x / sqrt(mean(x ** 2) + epsilon) * weight`` becomes ``RMSNormalization(x, weight)``.

    The mean runs over the last axis; the reciprocal root may be written in any of the usual
    ways. Where no constant weight follows, the weight is a constant of ones (Zhang and
    Sennrich, arXiv:1910.07467).
    """

    name: ClassVar[str] = "fuse-rms-normalization"
    anchors: ClassVar[frozenset[str]] = frozenset({"Mul", "Div"})
    min_opset: ClassVar[int] = 23

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        found = normalized(node)
        if found is None or centered(found[0]) is not None:
            return None  # what is centered first is a LayerNormalization
        x, mean, epsilon = found
        length = channels(x, mean)
        if isinstance(length, str):
            return Miss("rms-normalization", length)
        weighted, weight = following(node, "Mul", length)
        output = node.outputs[0] if weighted is None else weighted.outputs[0]

        def build(to: Builder) -> Sequence[ir.Value]:
            scale = weight or to.constant(np.ones(length, np.float32), "ones")
            result = to.op(
                "RMSNormalization", x, scale, like=output, axis=-1, epsilon=epsilon, stash_type=1
            )
            return [result]

        return Found("rms-normalization", build, (output,))
