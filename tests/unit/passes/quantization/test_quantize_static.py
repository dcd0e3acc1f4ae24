"""Where a target wants integers, and in which type: the options beside the golden cases."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from infopt.errors import QuantizationError
from infopt.ir import queries
from infopt.passes.quantization.quantize_float8 import QuantizeFloat8
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.pipeline import Pipeline
from tests.support.calibrating import observe
from tests.support.models import check, parse, to_text
from tests.support.weighted import SQUARE, K, build, noise

LAYERS = "h = MatMul(x, w) r = Relu(h) y = Gemm <transB = 1> (r, v, b)"
SHAPES = {"w": SQUARE, "v": SQUARE, "b": (K,)}


def quantized(model: ir.Model, spec: str) -> ir.Model:
    other = model.clone()
    Pipeline.parse(f"calibrate,{spec}").run(other, observe=observe)
    check(other)
    return other


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        ("quantize-static", 2e-3),
        ("quantize-static{activations=int8,symmetric=true}", 4e-3),
        ("quantize-float8", 4e-3),
        ("quantize-float8{algorithm=gptq}", 4e-3),
    ],
)
def test_it_is_close(spec: str, most: float) -> None:
    model = build(LAYERS, SHAPES)
    other = quantized(model, spec)
    assert queries.count_operators(other)["QuantizeLinear"] == 2
    assert 0 < noise(model, other) < most


def test_float8_has_one_scale_for_each_output_and_leaves_biases() -> None:
    model = quantized(build(LAYERS, SHAPES), "quantize-float8")
    kept = model.graph.initializers
    weights = [value for name, value in kept.items() if name.endswith("_quantized")]
    assert [value.dtype for value in weights] == [ir.DataType.FLOAT8E4M3FN] * 2
    assert kept["b"].dtype is ir.DataType.FLOAT
    for name in ("w", "v"):
        scale = queries.constant(kept[f"{name}_scale"])
        assert scale is not None
        assert scale.shape == (K,)
    (x_scale,) = [queries.constant(kept["x_scale"])]
    zero = queries.constant(kept["x_zero_point"])
    assert x_scale is not None
    assert zero is not None
    assert x_scale.shape == zero.shape == ()
    assert zero.astype(np.float32) == 0


def test_float8_is_an_option_of_quantize_static() -> None:
    model = build(LAYERS, SHAPES)
    options = "activations=float8e4m3fn,weights=float8e4m3fn,symmetric=true,method=min-max"
    texts = [
        to_text(quantized(model, spec))
        for spec in ("quantize-float8", f"quantize-static{{{options}}}")
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"activations": "int7"}, "cannot quantize to 'int7'; did you mean 'int"),
        ({"weights": "float8e4m3fn"}, "uint8 and float8e4m3fn are not multiplied"),
        ({"activations": "float8e4m3fn"}, "float8e4m3fn and int8 are not multiplied"),
    ],
)
def test_types_that_make_no_sense(options: dict[str, str], said: str) -> None:
    with pytest.raises(QuantizationError, match=said):
        QuantizeStatic(**options)  # type: ignore[arg-type]
    with pytest.raises(QuantizationError, match="not multiplied"):
        QuantizeFloat8(weights="int8")


def test_one_scale_spans_all_that_is_put_together() -> None:
    model = parse(
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2,2,1,1] w = {9, -1, 0.25, 2}, float[2,4,1,1] v = {1, 2, 3, 4, 5, 6, 7, 8}>
        {
          a = Conv(x, w)
          b = Conv(a, w)
          m = MaxPool <kernel_shape = [1, 1]> (b)
          c = Concat <axis = 1> (m, a)
          y = Conv(c, v)
        }"""
    )
    options = "activations=int8,symmetric=true,method=min-max"
    apart, whole, further = (
        _scales(quantized(model, f"quantize-static{{{options}{more}}}"))
        for more in ("", ",alike=Concat", ",alike=Concat+MaxPool")
    )
    assert apart["c"] > apart["a"]
    assert whole["a"] == whole["c"] == apart["c"]
    assert further == whole
    assert whole["x"] == apart["x"]


def _scales(model: ir.Model) -> dict[str, float]:
    return {
        str(node.inputs[0].name): float(array)
        for node in model.graph
        if node.op_type == "QuantizeLinear"
        and node.inputs[0] is not None
        and (array := queries.constant(node.inputs[1])) is not None
    }


def test_a_sum_stays_where_no_convolution_of_integers_takes_it_in() -> None:
    model = parse(
        """g (float[1,1,4,4] x) => (float[1,1,4,4] y)
        <float[1,1,1,1] w = {9}>
        {
          c = Conv(x, w)
          y = Add(c, x)
        }"""
    )
    options = "operators=Conv+Add,activations=int8,symmetric=true,skips=true"
    taken = quantized(model, f"quantize-static{{{options}}}")
    assert [
        sum(use.node.op_type == "Add" for use in node.outputs[0].uses())
        for node in taken.graph
        if node.op_type == "DequantizeLinear" and "x" in str(node.name)
    ] == [1]
    left = quantized(model, f"quantize-static{{{options},channels=16}}")
    assert not queries.count_operators(left)["QuantizeLinear"]
