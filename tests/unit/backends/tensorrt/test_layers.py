"""What the inspector says: written after NVIDIA's documentation, since no engine could be asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infopt.backends.tensorrt import layers
from infopt.errors import CompileError

# 8.x to 10.x: format and type in one field; nodes in the metadata, behind a separator.
TEN = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to /stem/conv + /stem/relu",
            "LayerType": "Reformat",
            "Inputs": [
                {
                    "Name": "x",
                    "Location": "Device",
                    "Dimensions": [1, 3, 8, 8],
                    "Format/Datatype": "Row major linear FP32 format",
                }
            ],
            "Outputs": [
                {
                    "Name": "Reformatted Input Tensor 0",
                    "Location": "Device",
                    "Dimensions": [1, 3, 8, 8],
                    "Format/Datatype": "Four wide channel vectorized row major Int8 format",
                }
            ],
            "ParameterType": "Reformat",
            "Origin": "REFORMAT",
            "TacticValue": "0x00000000000003ea",
            "StreamId": 0,
            "Metadata": "",
        },
        {
            "Name": "/stem/conv + /stem/relu",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {
                    "Name": "Reformatted Input Tensor 0",
                    "Dimensions": [1, 3, 8, 8],
                    "Format/Datatype": "Four wide channel vectorized row major Int8 format",
                }
            ],
            "Outputs": [
                {
                    "Name": "r",
                    "Dimensions": [1, 16, 6, 6],
                    "Format/Datatype": "Channel major FP16 format where channel % 8 == 0",
                }
            ],
            "ParameterType": "Convolution",
            "Kernel": [3, 3],
            "Weights": {"Type": "Int8", "Count": 432},
            "Bias": {"Type": "Float", "Count": 16},
            "Activation": "RELU",
            "TacticName": "sm80_xmma_fprop_implicit_gemm_i8f16_i8i32_f32_nhwc_tn_n",
            "Metadata": "[ONNX Layer: /stem/conv]\u001e[ONNX Layer: /stem/relu]",
        },
        {
            "Name": "__myl_CastMulAdd_myl0_3",
            "LayerType": "kgen",
            "Inputs": [{"Name": "r", "Dimensions": [-1, 16], "Format/Datatype": "Half"}],
            "Outputs": [
                {
                    "Name": "y",
                    "Dimensions": [-1, 16],
                    "Format/Datatype": "N/A due to dynamic shapes",
                }
            ],
            "TacticName": "__myl_CastMulAdd_0xa1",
            "StreamId": 0,
            "Metadata": "\u001e".join(
                f"[ONNX Layer: /head/{name}]" for name in ("mul", "add", "mul")
            ),
        },
    ],
    "Bindings": ["x", "y"],
}

# From 11.0 on: format and type apart, and objects for inputs and outputs of the engine.
ELEVEN: dict[str, Any] = {
    "Layers": [
        {
            "Name": "/fc/matmul_myl0_1",
            "LayerType": "gemm",
            "Inputs": [
                {
                    "Name": "a",
                    "Dimensions": [8, 64],
                    "Format": "Row major linear",
                    "DataType": "FP8",
                },
                {
                    "Name": "w",
                    "Dimensions": [64, 64],
                    "Format": "Row major linear",
                    "DataType": "FP8",
                },
            ],
            "Outputs": [
                {
                    "Name": "b",
                    "Dimensions": [8, 64],
                    "Format": "Row major linear",
                    "DataType": "BF16",
                }
            ],
            "TacticName": "sm89_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n",
            "Metadata": "[ONNX Layer: /fc/matmul]",
        }
    ],
    "I/O Tensors": [
        {"Name": "a", "IOMode": "Input", "DataType": "Float", "Dimensions": [8, 64]},
    ],
}


def test_ten() -> None:
    reformat, conv, kernel = layers.read(json.dumps(TEN))
    assert (reformat.reformats, conv.reformats, kernel.reformats) == (True, False, False)
    assert (reformat.reads, reformat.writes) == (("float",), ("int8",))
    assert conv.kind == "CaskConvolution"
    assert conv.reads == ("int8", "int8")  # the input and the weights
    assert conv.writes == ("float16",)
    assert conv.tactic.startswith("sm80_xmma_fprop")
    assert conv.nodes == ("/stem/conv", "/stem/relu")
    assert (kernel.reads, kernel.writes) == (("float16",), ())
    assert kernel.nodes == ("/head/mul", "/head/add")


def test_eleven() -> None:
    (gemm,) = layers.read(json.dumps(ELEVEN))
    assert gemm.reads == ("float8e4m3fn", "float8e4m3fn")
    assert gemm.writes == ("bfloat16",)
    assert gemm.nodes == ("/fc/matmul",)


def test_an_engine_that_only_names_its_layers() -> None:
    told = {"Layers": ["/a/conv + PWN(/a/relu, /a/mul)", "/b/conv || /c/conv"], "Bindings": []}
    first, second = layers.read(json.dumps(told))
    assert first.nodes == ("/a/conv", "/a/relu", "/a/mul")
    assert second.nodes == ("/b/conv", "/c/conv")
    assert (first.kind, first.reads, first.writes) == ("", (), ())


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        ("Row major linear FP32 format", "float"),
        ("Row major linear FP16 format", "float16"),
        ("Row major linear BF16 format", "bfloat16"),
        ("BFloat16", "bfloat16"),
        ("Float16", "float16"),
        ("Half", "float16"),
        ("Float", "float"),
        ("Row major Int8 format", "int8"),
        ("UInt8", "uint8"),
        ("FP8", "float8e4m3fn"),
        ("FP8E4M3", "float8e4m3fn"),
        ("Int4", "int4"),
        ("Int32", "int32"),
        ("Int64", "int64"),
        ("Bool", "bool"),
    ],
)
def test_words_for_types(words: str, dtype: str) -> None:
    row = {"Name": "l", "LayerType": "k", "Inputs": [{"Name": "x", "Format/Datatype": words}]}
    assert layers.read(json.dumps({"Layers": [row]}))[0].reads == (dtype,)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"Layers": 3}', '{"Layers": [{}]}', '{"Layers": [[]]}', "[" * 9**5],
)
def test_another_language(text: str) -> None:
    with pytest.raises(CompileError, match="a language that is not known here"):
        layers.read(text)
