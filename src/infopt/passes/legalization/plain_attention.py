"""plain-attention: attention as far as TensorRT knows it; the rest of it in parts."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor
from infopt.passes.legalization.expand_operators import expand
from infopt.passes.matching import input_at, size
from infopt.passes.precision._half import BFLOAT16, FLOAT16
from infopt.passes.rewriting import Builder

RULE = "softmax-precision"
MASK_RULE = "mask-type"
_KEYS, _VALUES, _MASK = 1, 2, 3
_PLAIN_INPUTS = 4  # queries, keys, values and a mask
_HALVES = {half.dtype: half for half in (FLOAT16, BFLOAT16)}


@dataclasses.dataclass(frozen=True)
class PlainAttention(Pass):
    """Each ``Attention`` keeps queries, keys, values, a mask, and one output.

    One with a soft cap, a past or a present becomes the nodes of its definition; so does one that
    has a mask and is causal as well, and one whose values are of another size than its keys. In
    which type the softmax is computed (``softmax_precision``) is no longer said: a kernel for the
    whole computes it in float32 inside, and TensorRT's parser takes no word on it. A mask of
    numbers gets the type of the scores that it is added to: the parser takes another one, and the
    builder breaks off over it.
    """

    name: ClassVar[str] = "plain-attention"
    preserves: ClassVar[Preserves] = Preserves.ROUNDING
    tolerance: ClassVar[float] = 1e-5

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Take apart what is more than plain; then forget types of softmaxes, and mend masks."""
        expand(model, journal, _is_more)
        editor = Editor(model)
        for root in queries.roots(model):
            opset = root.opset_imports.get("") or model.opset_imports.get("", 1)
            for node in list(root.all_nodes()):
                if not queries.is_standard(node, "Attention") or _is_more(node):
                    continue
                if "softmax_precision" in node.attributes and journal.permits(RULE, node):
                    del node.attributes["softmax_precision"]
                if _has_foreign_mask(node) and journal.permits(MASK_RULE, node):
                    node.replace_input_with(_MASK, _mask(node, Builder(editor, node, opset)))


def _is_more(node: ir.Node) -> bool:
    """Whether it is an attention with more to it than TensorRT knows."""
    if not queries.is_standard(node, "Attention"):
        return False
    further = any(value is not None for value in node.inputs[_PLAIN_INPUTS:])
    returned = any(output.name for output in node.outputs[1:])
    twice = input_at(node, _MASK) is not None and queries.attribute(node, "is_causal", 0) != 0
    capped = queries.attribute(node, "softcap", 0.0) != 0
    return further or returned or twice or capped or _has_wide_values(node)


def _has_wide_values(node: ir.Node) -> bool:
    """Whether the values of a head are known to be of another size than its keys."""
    keys, values = (size(node.inputs[index], -1) for index in (_KEYS, _VALUES))
    return keys is not None and values is not None and keys != values


def _has_foreign_mask(node: ir.Node) -> bool:
    mask, scores = input_at(node, _MASK), node.inputs[0]
    return (
        mask is not None
        and scores is not None
        and None not in (mask.dtype, scores.dtype)
        and mask.dtype not in (ir.DataType.BOOL, scores.dtype)
    )


def _mask(node: ir.Node, to: Builder) -> ir.Value:
    """The mask in the type of the scores; finite bans that it cannot hold are bounded."""
    mask, scores = node.inputs[_MASK], node.inputs[0]
    assert mask is not None
    assert mask.dtype is not None
    assert scores is not None
    assert scores.dtype is not None
    half, own = _HALVES.get(scores.dtype), _HALVES.get(mask.dtype)
    reach = math.inf if own is None else own.largest
    if half is not None and mask.dtype.is_floating_point() and reach > half.largest:
        ban = to.constant(np.array(half.ban, mask.dtype.numpy()), "ban")
        most = to.op("Max", mask, ban, like=mask)
        infinite = to.op("IsInf", mask, detect_positive=0)
        mask = to.op("Where", infinite, mask, most, like=mask)
    return to.op("Cast", mask, to=scores.dtype)
