"""fuse-causal: attention that looks at no later key by itself."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._lines import Border
from infopt.passes.fusion._positions import Positions
from infopt.passes.fusion._scores import BAN
from infopt.passes.matching import input_at
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "causal"
MASK, PAST, LENGTHS = 3, 4, 6


@dataclasses.dataclass(frozen=True)
class FuseCausal(Fusion):
    """``Attention(q, k, v, mask)`` with a mask of later keys becomes one with ``is_causal``.

    The mask is followed back to the ranges, tables or Trilu that it is made of: query ``i`` must
    attend to all keys ``j`` up to ``i``, and to no other. Whatever else is in the mask, padding
    or a window, leaves it there.

    Beside a past it stays, too. ONNX Runtime counts the queries from the first new key on, and
    ONNX says so since 1.23; before, it said that they are counted from the first key of all.
    """

    name: ClassVar[str] = "fuse-causal"
    anchors: ClassVar[frozenset[str]] = frozenset({"Attention"})
    min_opset: ClassVar[int] = 23
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        mask, q, k = input_at(node, MASK), node.inputs[0], node.inputs[1]
        if mask is None or q is None or k is None:
            return None
        found = Positions(sizes).of(mask)
        if not isinstance(found, Border) or not _bans_later_keys(found, mask):
            return None
        if any(input_at(node, index) is not None for index in (PAST, LENGTHS)):
            return Miss(RULE, "it has a past, and which key is the first was not always agreed on")
        if len(node.outputs) > 1:
            return Miss(RULE, "its scores are read, or its keys and values returned")
        axis = 1 if "q_num_heads" in node.attributes else 2
        if not (sizes.agree(mask, -2, q, axis) and sizes.agree(mask, -1, k, axis)):
            return Miss(RULE, "the mask may be broadcast along queries or keys")

        def build(to: Builder) -> ir.Value:
            attributes = {name: attr.value for name, attr in node.attributes.items()}
            attributes["is_causal"] = 1
            return to.op("Attention", *node.inputs[:3], like=node.outputs[0], **attributes)

        return Found(RULE, build)


def _bans_later_keys(found: Border, mask: ir.Value) -> bool:
    """Whether key ``j`` is banned for query ``i`` exactly if it comes later."""
    *rest, row, column = (0, *found.line.steps)
    if (
        any(rest)
        or found.line.start != (0 if row > 0 else -1)
        or (row, column)
        not in (
            (1, -1),
            (-1, 1),
        )
    ):
        return False
    allowed, banned = found.inside, found.outside
    if row < 0:  # the border is that of the banned keys
        allowed, banned = banned, allowed
    if mask.dtype == ir.DataType.BOOL:
        return bool(allowed) and not banned
    return allowed == 0 and mask.dtype is not None and banned <= BAN.get(mask.dtype, -float("inf"))
