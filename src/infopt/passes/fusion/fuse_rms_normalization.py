"""fuse-rms-normalization: root mean square normalization as one operator."""

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
)
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes


@dataclasses.dataclass(frozen=True)
class FuseRmsNormalization(Fusion):
    """``x / sqrt(mean(x ** 2) + epsilon) * weight`` becomes ``RMSNormalization(x, weight)``.

    The mean runs over the last axis; the reciprocal root may be written in any of the usual
    ways. In a graph of 16 bits it stands between a Cast to float32 and one back, as the operator
    computes it. Where no constant weight follows, the weight is a constant of ones (Zhang and
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
        end = ending(x, node, of_length(length), bias=False, casts=True)

        def build(to: Builder) -> ir.Value:
            return to.op(
                "RMSNormalization",
                end.source,
                *end.constants(to, (length,)),
                like=end.output,
                axis=-1,
                epsilon=epsilon,
                stash_type=1,
            )

        return Found("rms-normalization", build, (end.output,))
