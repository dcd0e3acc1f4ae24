"""fuse-pad: zeros that a Pad writes become the padding of the operator that reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.matching import input_at, produced_by, scalar
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "pad"


@dataclasses.dataclass(frozen=True)
class FusePad(Fusion):
    """``Conv(Pad(x), W, b)`` becomes ``Conv<pads>(x, W, b)``, where the Pad writes zeros in space.

    So does an AveragePool that counts padding, or that had none and now counts it. A MaxPool
    pads with the lowest value, so its Pad stays. What else reads the padded value still does
    (the ONNX operators Pad, Conv and AveragePool).
    """

    name: ClassVar[str] = "fuse-pad"
    anchors: ClassVar[frozenset[str]] = frozenset({"Conv", "AveragePool", "MaxPool"})
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        pad = produced_by(node.inputs[0], "Pad")
        if pad is None or pad.inputs[0] is None:
            return None
        x = pad.inputs[0]
        if node.op_type == "MaxPool":
            return Miss(RULE, "a MaxPool pads with the lowest value, not with a constant")
        value = input_at(pad, 2)
        if queries.attribute(pad, "mode", "constant") != "constant":
            return Miss(RULE, f"the Pad is of mode {queries.attribute(pad, 'mode', '')}")
        if value is not None and scalar(value) != 0.0:
            return Miss(RULE, "the Pad does not surely write zeros")
        if queries.attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return Miss(RULE, "the padding of the operator depends on the size of its input")
        widths = _spatial(pad, sizes)
        if isinstance(widths, str):
            return Miss(RULE, widths)
        own = [0] * len(widths)
        if queries.attribute(node, "auto_pad", "NOTSET") == "NOTSET":
            own = list(queries.attribute(node, "pads", own))
        sums = [a + b for a, b in zip(own, widths, strict=True)]
        if node.op_type == "AveragePool":
            reason = _why_not_pooled(node, own, sums)
            if reason is not None:
                return Miss(RULE, reason)
        output = node.outputs[0]

        def build(to: Builder) -> ir.Value:
            attributes = {key: attr.value for key, attr in node.attributes.items()}
            attributes.pop("auto_pad", None)
            attributes["pads"] = sums
            if node.op_type == "AveragePool":
                attributes["count_include_pad"] = 1
            return to.op(node.op_type, x, *node.inputs[1:], like=output, **attributes)

        return Found(RULE, build)


def _spatial(pad: ir.Node, sizes: Sizes) -> list[int] | str:
    """How many zeros stand before, then after each spatial axis; or why the Pad does more."""
    count, given = sizes.rank(pad.inputs[0]), queries.constant(input_at(pad, 1))
    axes = queries.constant(input_at(pad, 3))
    if count is None or given is None or (axes is None and input_at(pad, 3) is not None):
        return "how much is padded is known only at run time"
    where = range(count) if axes is None else [int(axis) % count for axis in axes]
    before, after = [0] * count, [0] * count
    for place, axis in enumerate(where):
        before[axis] = int(given[place])
        after[axis] = int(given[place + len(where)])
    if min(before + after) < 0:
        return "the Pad cuts something off"
    if any(before[:2] + after[:2]):
        return "the Pad adds samples or channels"
    return before[2:] + after[2:]


def _why_not_pooled(node: ir.Node, own: list[int], sums: list[int]) -> str | None:
    kernel: Sequence[int] = queries.attribute(node, "kernel_shape", [])
    if any(own) and not queries.attribute(node, "count_include_pad", 0):
        return "the AveragePool does not count its own padding"
    if queries.attribute(node, "ceil_mode", 0):
        return "the AveragePool may have a last window that starts in the padding"
    if any(width >= length for width, length in zip(sums, [*kernel, *kernel], strict=True)):
        return "the padding is as wide as the window"
    return None
