"""fuse-hard-swish: the piecewise linear form of Swish as one operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.matching import (
    either_way,
    input_at,
    is_read_outside,
    is_scalar,
    keeps_shape,
    produced_by,
    scalar,
    with_scalar,
)
from infopt.passes.rewriting import Answer, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "hard-swish"


@dataclasses.dataclass(frozen=True)
class FuseHardSwish(Fusion):
    """``x * clip(x / 6 + 1/2, 0, 1)`` becomes ``HardSwish(x)``.

    The gate may be a HardSigmoid, or ``clip(x + 3, 0, 6)`` of which, or of whose product with
    ``x``, a sixth is taken (Howard et al., arXiv:1905.02244).
    """

    name: ClassVar[str] = "fuse-hard-swish"
    anchors: ClassVar[frozenset[str]] = frozenset({"Mul", "Div"})
    min_opset: ClassVar[int] = 14

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        inner, factor = _scaled(node)
        product = node if inner is None else produced_by(inner, "Mul")
        if product is None or (inner is not None and is_read_outside(inner, [node])):
            return None
        for x, gate in either_way(product):
            if not _is_gate(gate, x, factor):
                continue
            if is_read_outside(gate, [product]):
                return Miss(RULE, "the gate is needed for something else, too")
            return Found(RULE, lambda to: to.op("HardSwish", x, like=node.outputs[0]))  # noqa: B023
        return None


def _scaled(node: ir.Node) -> tuple[ir.Value | None, float]:
    """``y`` and ``s`` if ``node`` computes ``y * s`` with a constant; else nothing and 1."""
    if node.op_type == "Div":
        number, y = scalar(node.inputs[1]), node.inputs[0]
        found = None if not number or y is None else (y, 1 / number)
    else:
        found = with_scalar(node)
    if found is None or not keeps_shape(node, found[0]):
        return None, 1.0
    return found


def _is_gate(gate: ir.Value, x: ir.Value, factor: float) -> bool:
    """Whether ``gate * factor`` is ``clip(x / 6 + 1/2, 0, 1)``."""
    hard = produced_by(gate, "HardSigmoid")
    if hard is not None:
        alpha, beta = queries.attribute(hard, "alpha", 0.2), queries.attribute(hard, "beta", 0.5)
        return hard.inputs[0] is x and factor == 1.0 and abs(alpha - 1 / 6) < 1e-6 and beta == 0.5
    node = produced_by(gate, "Mul", "Div")
    if node is not None:
        inner, more = _scaled(node)
        if inner is None or is_read_outside(inner, [node]):
            return False
        gate, factor = inner, factor * more
    clip = produced_by(gate, "Clip")
    if clip is None or abs(factor - 1 / 6) > 1e-6:
        return False
    if not (is_scalar(input_at(clip, 1), 0.0) and is_scalar(input_at(clip, 2), 6.0)):
        return False
    add = produced_by(clip.inputs[0], "Add")
    found = None if add is None else with_scalar(add)
    if add is None or found is None or found[0] is not x:
        return False
    return abs(found[1] - 3.0) < 1e-6 and keeps_shape(add, x)
