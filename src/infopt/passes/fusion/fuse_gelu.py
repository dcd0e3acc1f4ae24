"""fuse-gelu: the Gaussian error linear unit as one operator."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import onnx_ir as ir

from infopt.passes.fusion._fusion import Fusion
from infopt.passes.matching import (
    HALF_TOLERANCE,
    SCALAR_TOLERANCE,
    either_way,
    is_scalar,
    keeps_shape,
    produced_by,
    scalar,
    with_scalar,
)
from infopt.passes.rewriting import Answer, Found, Miss
from infopt.passes.sizes import Sizes


@dataclasses.dataclass(frozen=True)
class FuseGelu(Fusion):
    """``0.5 * x * (1 + erf(x / sqrt(2)))`` becomes ``Gelu(x)``.

    The factors may stand in any order. So may those of its approximation,
    ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))``, which becomes
    ``Gelu<approximate="tanh">(x)`` (Hendrycks and Gimpel, arXiv:1606.08415).
    """

    name: ClassVar[str] = "fuse-gelu"
    anchors: ClassVar[frozenset[str]] = frozenset({"Mul", "Div"})
    min_opset: ClassVar[int] = 20

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        found = _gate(node, depth=3)
        if found is None:
            return None
        gate, x, approximate = found
        rule = "gelu-tanh" if approximate == "tanh" else "gelu"
        readers = [use.node for use in node.outputs[0].uses()]
        if len(readers) == 1 and readers[0].op_type in self.anchors:
            outer = _gate(readers[0], depth=3)
            if outer is not None and outer[0] is gate and _factor(readers[0], gate, x) is not None:
                return None  # a part of the pattern that ends further down
        factor = _factor(node, gate, x)
        if factor is None:
            return Miss(rule, "something else than x and a constant is multiplied into it")
        half = x.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
        if not math.isclose(factor, 0.5, rel_tol=HALF_TOLERANCE if half else SCALAR_TOLERANCE):
            return Miss(rule, f"the constant factor is {factor:g}, not 0.5")
        output = node.outputs[0]
        return Found(rule, lambda to: to.op("Gelu", x, like=output, approximate=approximate))


def _gate(node: ir.Node, depth: int) -> tuple[ir.Node, ir.Value, str | None] | None:
    """The Add ``1 + erf(…)`` among the factors of ``node``, its x, and which form it is."""
    for value in node.inputs:
        add = produced_by(value, "Add")
        if add is not None:
            for one, inner in either_way(add):
                x = _of_erf(inner) if is_scalar(one, 1.0) else None
                if x is not None and keeps_shape(add, inner):
                    return add, x, None
                x = _of_tanh(inner) if is_scalar(one, 1.0) else None
                if x is not None and keeps_shape(add, inner):
                    return add, x, "tanh"
        factor = produced_by(value, "Mul", "Div")
        if factor is not None and depth > 1:
            found = _gate(factor, depth - 1)
            if found is not None:
                return found
    return None


def _of_erf(value: ir.Value) -> ir.Value | None:
    """``x`` of ``erf(x / sqrt(2))``."""
    erf = produced_by(value, "Erf")
    if erf is None:
        return None
    scaled = produced_by(erf.inputs[0], "Div", "Mul")
    if scaled is None:
        return None
    if scaled.op_type == "Div":
        x = scaled.inputs[0]
        right = is_scalar(scaled.inputs[1], math.sqrt(2))
    else:
        x = next((v for v, c in either_way(scaled) if is_scalar(c, math.sqrt(0.5))), None)
        right = x is not None
    return x if right and x is not None and keeps_shape(scaled, x) else None


def _of_tanh(value: ir.Value) -> ir.Value | None:
    """``x`` of ``tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))``."""
    tanh = produced_by(value, "Tanh")
    outer = None if tanh is None else produced_by(tanh.inputs[0], "Mul")
    if outer is None:
        return None
    for polynomial, constant in either_way(outer):
        add = produced_by(polynomial, "Add")
        if add is None or not is_scalar(constant, math.sqrt(2 / math.pi)):
            continue
        for x, cubic in either_way(add):
            mul = produced_by(cubic, "Mul")
            found = None if mul is None else with_scalar(mul)
            if found is None or not _is_cube(found[0], x):
                continue
            assert mul is not None
            if any(is_scalar(v, 0.044715) for v in mul.inputs) and keeps_shape(mul, found[0]):
                return x if keeps_shape(outer, polynomial) else None
    return None


def _is_cube(value: ir.Value, x: ir.Value) -> bool:
    power = produced_by(value, "Pow")
    if power is not None:
        return power.inputs[0] is x and is_scalar(power.inputs[1], 3.0) and keeps_shape(power, x)
    product = produced_by(value, "Mul")
    if product is None:
        return False
    for one, square in either_way(product):
        inner = produced_by(square, "Mul")
        if one is x and inner is not None and list(inner.inputs) == [x, x]:
            return True
    return False


def _factor(node: ir.Node, gate: ir.Node, x: ir.Value) -> float | None:
    """The constant ``c`` if ``node`` computes ``c * x * gate`` in the shape of ``x``."""
    constant, gates, xs = 1.0, 0, 0
    pending: list[tuple[ir.Value | None, int]] = [(node.outputs[0], 4)]
    while pending:
        value, depth = pending.pop()
        if value is gate.outputs[0]:
            gates += 1
            continue
        if value is x:
            xs += 1
            continue
        number = scalar(value)
        if number is not None:
            constant *= number
            continue
        factor = produced_by(value, "Mul", "Div")
        if factor is None or depth == 0:
            return None
        other = next((v for v in factor.inputs if v is not None and scalar(v) is None), None)
        scaled = any(scalar(each) is not None for each in factor.inputs)
        if other is None or (scaled and not keeps_shape(factor, other)):
            return None
        if factor.op_type == "Div":
            divisor = scalar(factor.inputs[1])
            if not divisor:
                return None
            constant /= divisor
            pending.append((factor.inputs[0], depth - 1))
        else:
            pending += [(each, depth - 1) for each in factor.inputs]
    return constant if gates == 1 and xs == 1 else None
