"""fuse-swish: the sigmoid-weighted linear unit as one operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.passes.fusion._fusion import Fusion
from infopt.passes.matching import (
    either_way,
    is_read_outside,
    keeps_shape,
    produced_by,
    with_scalar,
)
from infopt.passes.rewriting import Answer, Found, Miss
from infopt.passes.sizes import Sizes


@dataclasses.dataclass(frozen=True)
class FuseSwish(Fusion):
    """``x * sigmoid(alpha * x)`` becomes ``Swish<alpha>(x)``.

    With alpha 1 that is SiLU, with 1.702 the quick form of Gelu (Ramachandran et al.,
    arXiv:1710.05941).
    """

    name: ClassVar[str] = "fuse-swish"
    anchors: ClassVar[frozenset[str]] = frozenset({"Mul"})
    min_opset: ClassVar[int] = 24

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        for x, gate in either_way(node):
            sigmoid = produced_by(gate, "Sigmoid")
            if sigmoid is None:
                continue
            alpha = _alpha(sigmoid.inputs[0], x)
            if alpha is None:
                continue
            if is_read_outside(gate, [node]):
                return Miss("swish", "the sigmoid is needed for something else, too")
            return _found(x, alpha, node.outputs[0])
        return None


def _found(x: ir.Value, alpha: float, output: ir.Value) -> Found:
    return Found("swish", lambda to: to.op("Swish", x, like=output, alpha=alpha))


def _alpha(argument: ir.Value | None, x: ir.Value) -> float | None:
    """The constant by which ``x`` was multiplied to give ``argument``."""
    if argument is x:
        return 1.0
    scaled = produced_by(argument, "Mul")
    found = None if scaled is None else with_scalar(scaled)
    if scaled is None or found is None or found[0] is not x or not keeps_shape(scaled, x):
        return None
    return found[1]
