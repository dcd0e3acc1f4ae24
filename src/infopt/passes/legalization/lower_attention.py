"""lower-attention: attention over long sequences by ONNX Runtime's own operator."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import input_at
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "attention"
_PLAIN = frozenset({"q_num_heads", "kv_num_heads", "scale"})


@dataclasses.dataclass(frozen=True)
class LowerAttention(Rewrite):
    """``Attention(q, k, v)`` over many keys becomes ``com.microsoft.MultiHeadAttention``.

    ONNX Runtime computes that one block by block, without holding all scores at once (Dao et al.,
    arXiv:2205.14135), where there is no mask. It pays from some length on, so that the number of
    keys has to be known.
    """

    name: ClassVar[str] = "lower-attention"
    anchors: ClassVar[frozenset[str]] = frozenset({"Attention"})

    least: int = 1024
    """The number of keys from which on it pays."""

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        q, k, v = node.inputs[:3]
        keys, heads = sizes.number(k, 1), queries.attribute(node, "q_num_heads", 0)
        if sizes.rank(k) != 3 or keys is None or keys < self.least or k is None or v is None:
            return None
        if q is None or q.dtype != ir.DataType.FLOAT:
            return Miss(RULE, f"it is computed block by block in float only, not {k.dtype}")
        if any(value is not None for value in node.inputs[3:]) or len(node.outputs) > 1:
            return Miss(RULE, "with a mask or past keys it is not computed block by block")
        if queries.attribute(node, "kv_num_heads", 0) != heads:
            return Miss(RULE, "MultiHeadAttention has no grouped keys and values")
        extra = sorted(set(node.attributes) - _PLAIN)
        if extra or input_at(node, 0) is None:
            return Miss(RULE, f"MultiHeadAttention has no {', '.join(extra)}")
        if sizes.number(k, 2) != sizes.number(v, 2):
            return Miss(RULE, "keys and values differ in size")

        def build(to: Builder) -> ir.Value:
            return to.op(
                "MultiHeadAttention",
                q,
                k,
                v,
                domain="com.microsoft",
                like=node.outputs[0],
                num_heads=heads,
                scale=queries.attribute(node, "scale", 0.0) or None,
            )

        return Found(RULE, build)
