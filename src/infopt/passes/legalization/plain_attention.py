"""plain-attention: attention as far as TensorRT knows it; the rest of it in parts."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.legalization.expand_operators import expand

RULE = "softmax-precision"
_PLAIN_INPUTS = 4  # queries, keys, values and a mask


@dataclasses.dataclass(frozen=True)
class PlainAttention(Pass):
    """Each ``Attention`` keeps queries, keys, values, a mask, and one output.

    One with a soft cap, a past or a present becomes the nodes of its definition. In which type the
    softmax is computed (``softmax_precision``) is no longer said: a kernel for the whole computes
    it in float32 inside, and TensorRT's parser takes no word on it.
    """

    name: ClassVar[str] = "plain-attention"
    preserves: ClassVar[Preserves] = Preserves.ROUNDING
    tolerance: ClassVar[float] = 1e-5

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Take apart what is more than plain; then forget types of softmaxes."""
        expand(model, journal, _is_more)
        for node in queries.nodes(model):
            if not queries.is_standard(node, "Attention") or _is_more(node):
                continue
            if "softmax_precision" in node.attributes and journal.permits(RULE, node):
                del node.attributes["softmax_precision"]


def _is_more(node: ir.Node) -> bool:
    """Whether it is an attention with a soft cap, a past, a present, or its scores."""
    if not queries.is_standard(node, "Attention"):
        return False
    further = any(value is not None for value in node.inputs[_PLAIN_INPUTS:])
    returned = any(output.name for output in node.outputs[1:])
    return further or returned or queries.attribute(node, "softcap", 0.0) != 0
