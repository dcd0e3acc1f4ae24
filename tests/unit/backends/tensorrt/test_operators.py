"""Every operator that raising makes is built: nothing is taken apart for TensorRT."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import infopt
from infopt.errors import CompileError
from infopt.ir.opset import OPSET
from infopt.passes import PASSES
from infopt.passes.fusion._fusion import Fusion

RAISED = {
    "Attention": (
        "(float[N,4,S,8] q, float[N,4,S,8] k, float[N,4,S,8] v) => (float[N,4,S,8] y)",
        "y = Attention(q, k, v)",
    ),
    "Attention, causal": (
        "(float[N,4,S,8] q, float[N,2,S,8] k, float[N,2,S,8] v) => (float[N,4,S,8] y)",
        "y = Attention<is_causal = 1>(q, k, v)",
    ),
    "Attention, flat": (
        "(float[N,S,32] q, float[N,S,32] k, float[N,S,32] v) => (float[N,S,32] y)",
        "y = Attention<q_num_heads = 4, kv_num_heads = 4, scale = 0.5>(q, k, v)",
    ),
    "Attention, masked": (
        "(float[N,4,S,8] q, float[N,4,S,8] k, float[N,4,S,8] v, bool[N,1,1,S] m) "
        "=> (float[N,4,S,8] y)",
        "y = Attention(q, k, v, m)",
    ),
    "Attention in 16 bits": (
        "(float16[N,4,S,64] q, float16[N,4,S,64] k, float16[N,4,S,64] v) => (float16[N,4,S,64] y)",
        "y = Attention(q, k, v)",
    ),
    "Attention, capped": (
        "(float[N,4,S,8] q, float[N,4,S,8] k, float[N,4,S,8] v) => (float[N,4,S,8] y)",
        "y = Attention<softcap = 5.0>(q, k, v)",
    ),
    "Attention, with a past": (
        "(float[N,4,S,8] q, float[N,4,S,8] k, float[N,4,S,8] v, float[N,4,16,8] p) "
        "=> (float[N,4,S,8] y, float[N,4,T,8] l, float[N,4,T,8] w)",
        "y, l, w = Attention(q, k, v, , p, p)",
    ),
    "Attention, float32 inside 16 bits": (
        "(float16[N,4,S,64] q, float16[N,4,S,64] k, float16[N,4,S,64] v) => (float16[N,4,S,64] y)",
        "y = Attention<softmax_precision = 1>(q, k, v)",
    ),
    "RotaryEmbedding": (
        "(float[N,4,S,8] x, float[N,S,4] c, float[N,S,4] s) => (float[N,4,S,8] y)",
        "y = RotaryEmbedding(x, c, s)",
    ),
    "LayerNormalization": (
        "(float[N,S,8] x, float[8] w) => (float[N,S,8] y)",
        "y = LayerNormalization(x, w)",
    ),
    "RMSNormalization": (
        "(float[N,S,8] x, float[8] w) => (float[N,S,8] y)",
        "y = RMSNormalization(x, w)",
    ),
    "GroupNormalization": (
        "(float[N,8,S] x, float[8] w) => (float[N,8,S] y)",
        "y = GroupNormalization<num_groups = 2>(x, w, w)",
    ),
    "InstanceNormalization": (
        "(float[N,8,S] x) => (float[N,8,S] y)",
        "w = Constant<value = float[8] {1, 2, 3, 4, 5, 6, 7, 8}>() "
        "y = InstanceNormalization(x, w, w)",
    ),
    "Gelu": ("(float[N,S] x) => (float[N,S] y)", "y = Gelu(x)"),
    "Gelu, tanh": ("(float[N,S] x) => (float[N,S] y)", 'y = Gelu<approximate = "tanh">(x)'),
    "Swish": ("(float[N,S] x) => (float[N,S] y)", "y = Swish<alpha = 1.7>(x)"),
    "HardSwish": ("(float[N,S] x) => (float[N,S] y)", "y = HardSwish(x)"),
    "Mish": ("(float[N,S] x) => (float[N,S] y)", "y = Mish(x)"),
    "Gemm": (
        "(float[N,8] x, float[8,4] w, float[4] b) => (float[N,4] y)",
        "y = Gemm<alpha = 0.5>(x, w, b)",
    ),
}
_16 = "float16[N,4,S,64] q, float16[N,4,S,64] k, float16[N,4,S,64] v"
MENDED = {
    "Attention in 16 bits, a mask in 32": (
        f"({_16}, float[N,1,1,S] m) => (float16[N,4,S,64] y)",
        "y = Attention(q, k, v, m)",
    ),
    "Attention in bfloat16, a mask in 32": (
        f"({_16}, float[S,S] m) => (float16[N,4,S,64] y)".replace("float16", "bfloat16"),
        "y = Attention(q, k, v, m)",
    ),
    "Attention in 32 bits, a mask in 16": (
        f"({_16}, half[N,1,S,S] m) => (float16[N,4,S,64] y)".replace("float16", "float").replace(
            "half", "float16"
        ),
        "y = Attention(q, k, v, m)",
    ),
    "Attention, causal and masked": (
        f"({_16}, bool[N,1,1,S] m) => (float16[N,4,S,64] y)",
        "y = Attention<is_causal = 1>(q, k, v, m)",
    ),
    "Attention, values of another size": (
        "(float16[N,4,S,64] q, float16[N,4,S,32] v) => (float16[N,4,S,32] y)",
        "y = Attention(q, q, v)",
    ),
    "HardSwish in bfloat16": ("(bfloat16[N,S] x) => (bfloat16[N,S] y)", "y = HardSwish(x)"),
    "Mish in bfloat16": ("(bfloat16[N,S] x) => (bfloat16[N,S] y)", "y = Mish(x)"),
    "ConvTranspose in bfloat16": (
        "(bfloat16[N,8,S,S] x, bfloat16[8,8,2,2] w) => (bfloat16[N,8,T,T] y)",
        "y = ConvTranspose<strides = [2, 2]>(x, w)",
    ),
}
"""What TensorRT refuses as it is, the builder in words about its insides."""
SIZES = ("N=1..4@2", "S=1..64@16")


@pytest.mark.parametrize("name", [*RAISED, *MENDED])
def test_it_builds(rtx: str, name: str, tmp_path: Path) -> None:
    face, body = {**RAISED, **MENDED}[name]
    path = tmp_path / "model.onnx"
    text = f'<ir_version: 11, opset_import: ["" : {OPSET}]> g {face} {{ {body} }}'
    onnx.save(onnx.parser.parse_model(text), path)
    sizes = [size for size in SIZES if f"{size[0]}," in face or f"{size[0]}]" in face]
    engine = infopt.optimize(path, tmp_path / "e", target=rtx, shapes=sizes, verify=False)
    assert engine.file("engine.plan").stat().st_size > 1000


def test_there_is_a_build_for_every_operator_that_raising_makes() -> None:
    fusions = [cls for cls in PASSES.values() if issubclass(cls, Fusion) and cls.raises]
    known = {name.partition(",")[0].partition(" ")[0] for name in RAISED}
    assert {cls.operator() for cls in fusions} <= known


def test_a_model_that_the_builder_refuses(rtx: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.parser.parse_model(
            """<ir_version: 10, opset_import: ["" : 20]>
            g (string[2] x) => (string[2] y) { y = Identity(x) }"""
        ),
        path,
    )
    with pytest.raises(CompileError, match="TensorRT has no such type"):
        infopt.optimize(path, tmp_path / "e", target=rtx, verify=False)
