"""fuse-mish: the self-regularized activation as one operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.passes.fusion._fusion import Fusion
from infopt.passes.matching import either_way, is_read_outside, produced_by
from infopt.passes.rewriting import Answer, Found, Miss
from infopt.passes.sizes import Sizes


@dataclasses.dataclass(frozen=True)
class FuseMish(Fusion):
    """``x * tanh(softplus(x))`` becomes ``Mish(x)``.

    The gate must be of use here only (Misra, arXiv:1908.08681).
    """

    name: ClassVar[str] = "fuse-mish"
    anchors: ClassVar[frozenset[str]] = frozenset({"Mul"})
    min_opset: ClassVar[int] = 18

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        for x, gate in either_way(node):
            tanh = produced_by(gate, "Tanh")
            softplus = None if tanh is None else produced_by(tanh.inputs[0], "Softplus")
            if softplus is None or softplus.inputs[0] is not x:
                continue
            if is_read_outside(gate, [node]):
                return Miss("mish", "the gate is needed for something else, too")
            return Found("mish", lambda to: to.op("Mish", x, like=node.outputs[0]))  # noqa: B023
        return None
