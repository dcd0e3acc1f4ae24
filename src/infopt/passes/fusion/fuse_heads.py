"""fuse-heads: attention that splits and merges the heads itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._heads import merged, split
from infopt.passes.matching import input_at, is_read_outside, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "heads"
INPUTS = ("queries", "keys", "values")
LENGTHS = 6
"""The input that says how many keys of each sequence count; it has no form with a past."""
OUTPUTS = 3
"""The result and the present keys and values; one more holds the scores by heads."""


@dataclasses.dataclass(frozen=True)
class Side:
    """Queries, keys or values before they were split into heads."""

    whole: ir.Value
    """Shape (batch, sequence, heads · size)."""
    heads: int
    rotated: ir.Node | None
    """The RotaryEmbedding between the split and the attention."""


@dataclasses.dataclass(frozen=True)
class FuseHeads(Fusion):
    """``Attention`` takes queries, keys and values whole, and returns its result whole.

    Where all three are split into heads by a Reshape and a Transpose just before (or before a
    RotaryEmbedding, which then takes its input whole, too) and the result is merged just after,
    the operators' forms of rank 3 say the same with a number of heads. Past and present keys and
    values have an axis for the heads in either form.
    """

    name: ClassVar[str] = "fuse-heads"
    anchors: ClassVar[frozenset[str]] = frozenset({"Attention"})
    min_opset: ClassVar[int] = 23
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        values = [input_at(node, index) for index in range(3)]
        if any(sizes.rank(value) != 4 for value in values) or input_at(node, LENGTHS) is not None:
            return None
        if len(node.outputs) > OUTPUTS:
            return None
        sides = [_side(value, node, sizes) for value in values]
        whole = merged(node.outputs[0], sizes)
        found = [side for side in sides if side is not None]
        if not found and whole is None:
            return None
        if len(found) < 3:
            missing = [name for name, side in zip(INPUTS, sides, strict=True) if side is None]
            return Miss(RULE, f"the {' and '.join(missing)} are not split from one axis")
        if whole is None:
            return Miss(RULE, "the heads of the result are not merged into one axis")
        output, present = whole, node.outputs[1:]

        def build(to: Builder) -> Sequence[ir.Value]:
            attributes = {name: attr.value for name, attr in node.attributes.items()}
            inputs = [_whole(side, to) for side in found]
            q, k, _ = found
            return to.ops(
                "Attention",
                *inputs,
                *node.inputs[3:],
                like=[output, *present],
                **attributes,
                q_num_heads=q.heads,
                kv_num_heads=k.heads,
            )

        return Found(RULE, build, (output, *present))


def _side(value: ir.Value | None, node: ir.Node, sizes: Sizes) -> Side | None:
    rotated = produced_by(value, "RotaryEmbedding")
    if rotated is not None and value is not None:
        if is_read_outside(value, [node]):
            return None
        value = rotated.inputs[0]
    found = split(value, sizes)
    return None if found is None else Side(*found, rotated)


def _whole(side: Side, to: Builder) -> ir.Value:
    if side.rotated is None:
        return side.whole
    _, *caches = side.rotated.inputs
    return to.op(
        "RotaryEmbedding",
        side.whole,
        *caches,
        like=side.whole,
        num_heads=side.heads,
        interleaved=queries.attribute(side.rotated, "interleaved", 0) or None,
        rotary_embedding_dim=queries.attribute(side.rotated, "rotary_embedding_dim", 0) or None,
    )
