"""fuse-rms-normalization: root mean square normalization as one operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._normalization import centered, channels, following, normalized
from infopt.passes.matching import produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


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
        half = _around(x, node)
        source, last = (x, node) if half is None else half
        weighted, weight = following(last, "Mul", length)
        output = last.outputs[0] if weighted is None else weighted.outputs[0]
        dtype = source.dtype
        assert dtype is not None

        def build(to: Builder) -> Sequence[ir.Value]:
            scale = weight or to.constant(np.ones(length, dtype.numpy()), "ones")
            result = to.op(
                "RMSNormalization",
                source,
                scale,
                like=output,
                axis=-1,
                epsilon=epsilon,
                stash_type=1,
            )
            return [result]

        return Found("rms-normalization", build, (output,))


def _around(x: ir.Value, node: ir.Node) -> tuple[ir.Value, ir.Node] | None:
    """What is cast to ``x``, and the only reader of ``node``, if that casts back again."""
    up = produced_by(x, "Cast")
    readers = list(node.outputs[0].uses())
    if up is None or up.inputs[0] is None or len(readers) != 1 or node.outputs[0].is_graph_output():
        return None
    down = produced_by(readers[0].node.outputs[0], "Cast")
    if down is None or down.outputs[0].dtype != up.inputs[0].dtype:
        return None
    return (up.inputs[0], down) if up.inputs[0].dtype in HALVES else None
