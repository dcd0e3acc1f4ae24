"""fuse-past: attention that keeps its keys and values for the next call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.matching import input_at, is_read_outside, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "past"
KEYS, VALUES, MASK = 1, 2, 3
SEQUENCE = 2
"""The axis of keys and values along which they are kept."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """Keys or values of former calls, and behind them those of this call."""

    past: ir.Value
    """Shape (batch, heads of keys and values, past length, size of a head)."""
    new: ir.Value
    whole: ir.Value
    """What is concatenated of the two."""


@dataclasses.dataclass(frozen=True)
class FusePast(Fusion):
    """``Attention(q, Concat(past, k), Concat(past, v))`` takes the past and returns the present.

    Keys and values of shape (batch, heads, sequence, size of a head) are concatenated along their
    sequence with those of former calls, which the caller hands in and of which it gets back the
    longer ones (Pope et al., arXiv:2211.05102). Whatever asks for the shape of the longer ones,
    as masks do, gets it from the parts, so that it need not wait for the attention.

    Longer keys and values that only the attention reads stay concatenated: a runtime may write
    the present as it goes, and then has no kernel for a past without (ONNX Runtime 1.31).
    """

    name: ClassVar[str] = "fuse-past"
    anchors: ClassVar[frozenset[str]] = frozenset({"Attention", "Shape"})
    min_opset: ClassVar[int] = 23
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        if node.op_type == "Shape":
            return _shape(node, sizes)
        sides = _sides(node, sizes)
        if isinstance(sides, str):
            return Miss(RULE, sides)
        if sides is None:
            return None
        keys, values = sides
        if reason := _misplaced(node, sides):
            return Miss(RULE, reason)

        def build(to: Builder) -> Sequence[ir.Value]:
            attributes = {name: attr.value for name, attr in node.attributes.items()}
            result, *present = to.ops(
                "Attention",
                node.inputs[0],
                keys.new,
                values.new,
                input_at(node, MASK),
                keys.past,
                values.past,
                like=[node.outputs[0], keys.whole, values.whole],
                **attributes,
            )
            return [*present, result]

        return Found(RULE, build, (keys.whole, values.whole, node.outputs[0]))


def _sides(node: ir.Node, sizes: Sizes) -> tuple[Kept, Kept] | str | None:
    """The keys and values of an Attention, if it has a past; or why they are none; or ``None``."""
    if len(node.outputs) > 1 or any(input_at(node, index) is not None for index in (4, 5, 6)):
        return None
    keys, values = (_kept(node, node.inputs[index], sizes) for index in (KEYS, VALUES))
    if keys is None and values is None:
        return None
    if keys is None or values is None:
        return f"its {'keys' if values is None else 'values'} are kept, and the others are not"
    # Together with the past they are as long, so it is enough to know of one of the two.
    if not (
        sizes.agree(keys.new, SEQUENCE, values.new, SEQUENCE)
        or sizes.agree(keys.past, SEQUENCE, values.past, SEQUENCE)
    ):
        return "its keys and values may be kept for different lengths"
    if queries.attribute(node, "is_causal", 0):
        return "it is causal from the first key on, with a past it would be from the first new one"
    return keys, values


def _kept(node: ir.Node, value: ir.Value | None, sizes: Sizes) -> Kept | None:
    concat = produced_by(value, "Concat")
    if concat is None or value is None or len(concat.inputs) != 2 or sizes.rank(value) != 4:
        return None
    past, new = concat.inputs
    if past is None or new is None or concat.graph is not node.graph:
        return None
    if queries.attribute(concat, "axis", 0) not in (SEQUENCE, SEQUENCE - 4):
        return None
    shapes = [use.node for use in value.uses() if queries.is_standard(use.node, "Shape")]
    # What is concatenated and read by nothing but this attention is not kept.
    return Kept(past, new, value) if is_read_outside(value, [node, *shapes]) else None


def _misplaced(node: ir.Node, sides: tuple[Kept, Kept]) -> str | None:
    """Why what reads the longer keys and values cannot read them behind the attention."""
    assert node.graph is not None
    before = set()
    for other in node.graph:
        if other is node:
            break
        before.add(other)
    for side in sides:
        readers = [use.node for use in side.whole.uses()]
        if any(reader in before or reader.graph is not node.graph for reader in readers):
            return f"{side.whole.name!r} is read before the attention, or in another graph"
    return None


def _shape(node: ir.Node, sizes: Sizes) -> Answer:
    """The shape of keys or values with their past, from that of both parts."""
    side = _kept_for(node.inputs[0], sizes)
    axes = range(4)[queries.attribute(node, "start", 0) : queries.attribute(node, "end", 4)]
    if side is None or not axes:
        return None

    def build(to: Builder) -> ir.Value:
        parts = []
        if axes.start < SEQUENCE:
            end = min(axes.stop, SEQUENCE)
            parts.append(to.op("Shape", side.new, start=axes.start, end=end))
        if SEQUENCE in axes:
            lengths = [
                to.op("Shape", part, start=SEQUENCE, end=SEQUENCE + 1)
                for part in (side.past, side.new)
            ]
            parts.append(to.op("Add", *lengths))
        if axes.stop > SEQUENCE + 1:
            parts.append(to.op("Shape", side.new, start=SEQUENCE + 1, end=axes.stop))
        return parts[0] if len(parts) == 1 else to.op("Concat", *parts, axis=0)

    return Found("past-length", build)


def _kept_for(whole: ir.Value | None, sizes: Sizes) -> Kept | None:
    """What ``whole`` is made of, if an attention takes it for its keys or values."""
    for use in () if whole is None else whole.uses():
        if queries.is_standard(use.node, "Attention") and use.idx in (KEYS, VALUES):
            sides = _sides(use.node, sizes)
            if isinstance(sides, tuple):
                return sides[use.idx - KEYS]
    return None
