"""fuse-attention: scaled dot-product attention as one operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._heads import grouped, length_of, unflattened
from infopt.passes.fusion._scores import Scores, misfit, scores, write_mask
from infopt.passes.matching import is_read_outside, produced_by, scalar
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "attention"


@dataclasses.dataclass(frozen=True)
class FuseAttention(Fusion):
    """``softmax(q · kᵀ · scale + mask) · v`` becomes ``Attention(q, k, v, mask)``.

    Queries, keys and values have shape (batch, heads, sequence, size of a head). The scale may
    be folded into either side, or in parts into both. Masks that are added are summed up; where
    scores are replaced by a ban, by ``Where`` or by adding minus infinity, the mask becomes
    boolean. ``softcap * tanh(scores / softcap)`` becomes the attribute (Gemma Team,
    arXiv:2408.00118); keys and values that are repeated for groups of queries are read unrepeated
    (Ainslie et al., arXiv:2305.13245).

    A row in which minus infinity bans every key is not a number in most formulas and zero in
    those that guard against it; in the operator it is zero (ONNX specification, Attention-24).
    """

    name: ClassVar[str] = "fuse-attention"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul"})
    min_opset: ClassVar[int] = 23

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        flat = produced_by(node.inputs[0], "Reshape")
        weights, softmax = _weights(node if flat is None else flat)
        if softmax is None or weights is None:
            return None
        found = scores(softmax.inputs[0], sizes)
        if found is None:
            return None
        if isinstance(found, str):
            return Miss(RULE, found)
        last = node if flat is None else flat
        inside = [*_guards(last), last, node]
        between = [softmax.outputs[0], weights, *(() if flat is None else flat.outputs)]
        if any(_is_read(x, inside) for x in between):
            return Miss(RULE, "the attention weights are read elsewhere, too")
        if queries.attribute(softmax, "axis", -1) not in (-1, 3):
            return Miss(RULE, "the softmax does not run over the keys")
        value = node.inputs[1]
        if flat is not None:
            if unflattened(flat.outputs[0], sizes) is None:
                return Miss(RULE, "the attention weights are reshaped")
            value = unflattened(value, sizes)
        if value is None or sizes.rank(value) != 4 or found.flat:
            return Miss(RULE, f"the values have rank {sizes.rank(node.inputs[1])}, not 4")
        return _raise(node, softmax, found, value, sizes)


def _is_read(value: ir.Value, inside: list[ir.Node]) -> bool:
    """Whether something but ``inside`` reads more of ``value`` than its shape."""
    shapes = [use.node for use in value.uses() if queries.is_standard(use.node, "Shape")]
    return is_read_outside(value, [*inside, *shapes])


def _weights(node: ir.Node) -> tuple[ir.Value | None, ir.Node | None]:
    """What the values are multiplied by, and the Softmax behind it."""
    value = node.inputs[0]
    softmax = None
    for step in (node, *_guards(node)):
        softmax = produced_by(step.inputs[_THROUGH.get(step.op_type, 0)], "Softmax")
        if softmax is not None:
            break
    return value, softmax


_THROUGH = {"Where": 2}
"""Which input of a guard the weights are; the first by default."""


def _guards(node: ir.Node) -> list[ir.Node]:
    """What may stand between the Softmax and ``node``: a Cast, and zeros where it is no number."""
    guards: list[ir.Node] = []
    value = node.inputs[0]
    while (step := produced_by(value, "Where", "Cast")) is not None:
        if step.op_type == "Where":
            check = produced_by(step.inputs[0], "IsNaN")
            if check is None or check.inputs[0] is not step.inputs[2]:
                break
            if scalar(step.inputs[1]) != 0.0:
                break
            guards += [step, check]
            value = step.inputs[2]
        else:
            guards.append(step)
            value = step.inputs[0]
    return guards


def _raise(node: ir.Node, softmax: ir.Node, found: Scores, value: ir.Value, sizes: Sizes) -> Answer:
    q, k = found.queries, found.keys
    perm = found.permutation
    undone = (0, 1, 3, 2) if perm is None else (*perm[:2], perm[3], perm[2])
    plain = grouped(k, sizes) if undone == (0, 1, 2, 3) else k
    values = grouped(value, sizes)
    key_heads, value_heads = sizes.number(plain, undone[1]), sizes.number(values, 1)
    if key_heads != value_heads:
        plain, values = k, value
        key_heads, value_heads = sizes.number(plain, undone[1]), sizes.number(values, 1)
    heads = sizes.number(q, 1)
    batches = {sizes.number(x, i) for x, i in ((q, 0), (plain, undone[0]), (values, 0))}
    reason = _unfit(heads, key_heads, value_heads, batches) or misfit(found, sizes)
    if reason is not None:
        return Miss(RULE, reason)
    dtype = q.dtype
    if dtype is None or plain.dtype != dtype or values.dtype != dtype:
        return Miss(RULE, f"queries, keys and values are {dtype}, {plain.dtype}, {values.dtype}")

    wider = softmax.outputs[0].dtype
    if wider is None or wider.itemsize < dtype.itemsize:
        return Miss(RULE, f"the softmax is computed in {wider}, the scores in {dtype}")

    def build(to: Builder) -> ir.Value:
        keys = plain if undone == (0, 1, 2, 3) else to.op("Transpose", plain, perm=undone)
        mask = write_mask(to, found.masks, dtype)
        if mask is not None:
            mask = _spread(to, mask, q, sizes)
        result = to.op(
            "Attention",
            q,
            keys,
            values,
            mask,
            like=node.outputs[0] if sizes.rank(node.outputs[0]) == 4 else None,
            scale=float(np.float32(found.scale)),
            softcap=float(np.float32(found.softcap)) or None,
            softmax_precision=None if wider == dtype else int(wider),
        )
        if sizes.rank(node.outputs[0]) == 4:
            return result
        sides = [length_of(to, sizes, q, 2), length_of(to, sizes, values, 3)]
        target = to.op("Concat", to.constant(np.array([-1]), "rest"), *sides, axis=0)
        return to.op("Reshape", result, target, like=node.outputs[0])

    return Found(RULE, build)


def _unfit(
    heads: int | None, key_heads: int | None, value_heads: int | None, batches: set[int | None]
) -> str | None:
    """Why the operator does not take these queries, keys and values."""
    if heads is None or key_heads is None or value_heads is None:
        return "the number of heads is known only at run time"
    if key_heads != value_heads or heads % key_heads:
        return f"{heads} heads of queries, {key_heads} of keys and {value_heads} of values"
    # A batch of 1 would be broadcast; other sizes can only be equal.
    if 1 in batches and len(batches) > 1:
        return "queries, keys and values are broadcast along the batch"
    return None


def _spread(to: Builder, mask: ir.Value, q: ir.Value, sizes: Sizes) -> ir.Value:
    """The mask with an axis for the queries of full length.

    The specification lets it be broadcast there; ONNX Runtime's kernel for processors does not.
    """
    length, own = sizes.shape(q), sizes.shape(mask)
    count = sizes.rank(mask)
    if count is not None and count >= 2 and length is not None:
        if own is not None and own[-2] == length[2]:
            return mask
        if sizes.number(mask, -2) is not None and sizes.number(mask, -2) == sizes.number(q, 2):
            return mask
        if sizes.number(mask, -2) != 1 and sizes.agree(mask, count - 2, q, 2):
            return mask
    rows = length_of(to, sizes, q, 2)
    target = to.op("Concat", rows, to.constant(np.array([1]), "one"), axis=0)
    return to.op("Expand", mask, target)
