"""Products with weights in blocks: MatMulNBits computes what was written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from infopt.errors import PipelineError
from infopt.ir import queries
from infopt.ir.shapes import infer_shapes
from infopt.passes.legalization.lower_block_products import LowerBlockProducts
from infopt.passes.matching import input_at
from infopt.passes.quantization.quantize_weights import QuantizeWeights
from tests.support.models import Array, feeds, run

INPUTS, OUTPUTS = 80, 72


def quantized(body: str, bits: int, block: int, *, symmetric: bool) -> ir.Model:
    """A model on ``float[2,3,80] x`` (``x2``: two axes) with weights in blocks."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 11, opset_import: ["" : 24]> g (float[2,3,{INPUTS}] x, float[5,{INPUTS}] x2)'
        f" => (y) {{ {body} }}"
    )
    rng = np.random.default_rng(0)
    shapes = {"w": (INPUTS, OUTPUTS), "wt": (OUTPUTS, INPUTS), "b": (OUTPUTS,)}
    for name, shape in shapes.items():
        array = rng.normal(0.1, 1, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = ir.from_proto(proto)
    infer_shapes(model)
    for value in model.graph.outputs:
        assert value.type is not None
    a_pass = QuantizeWeights(bits, block, symmetric=symmetric)
    assert a_pass.call(model).modified
    return model


def _result(model: ir.Model, inputs: Mapping[str, Array]) -> np.ndarray:
    (found,) = run(model, inputs)
    return found.astype(np.float64)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [16, 32, 128])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul(x, w)",
        "p = MatMul(x, w) y = Add(p, b)",
        "y = Gemm(x2, w, b)",
        "y = Gemm <transB = 1> (x2, wt)",
    ],
)
def test_the_same_numbers(bits: int, block: int, body: str, *, symmetric: bool) -> None:
    model = quantized(body, bits, block, symmetric=symmetric)
    lowered = model.clone()
    assert LowerBlockProducts().call(lowered).modified
    assert set(queries.count_operators(lowered)) == {"com.microsoft::MatMulNBits"}
    (node,) = lowered.graph
    assert (input_at(node, 3) is None) == symmetric
    right, found = (_result(each, feeds(model)) for each in (model, lowered))
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5 * float(np.abs(right).max()))


def test_level_4_rounds_what_it_reads() -> None:
    model = quantized("y = MatMul(x, w)", 4, 32, symmetric=False)
    lowered = model.clone()
    LowerBlockProducts(accuracy_level=4).call(lowered)
    right, found = (_result(each, feeds(model)) for each in (model, lowered))
    error = float(np.sqrt(np.mean((found - right) ** 2) / np.mean(right**2)))
    assert 1e-4 < error < 0.01


def test_there_is_no_other_level() -> None:
    with pytest.raises(PipelineError, match="no accuracy level 2; use one of 0, 1 and 4"):
        LowerBlockProducts(accuracy_level=2)
