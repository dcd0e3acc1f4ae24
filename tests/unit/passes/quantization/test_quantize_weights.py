"""Weights in blocks: what is rounded how, what the inputs' scales become, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from infopt.errors import QuantizationError
from infopt.ir import files, queries
from infopt.ir.shapes import infer_shapes
from infopt.passes.base import Change
from infopt.passes.quantization.quantize_weights import QuantizeWeights
from infopt.pipeline import Calibrate, PassRun, Pipeline, Stop
from tests.support.calibrating import observe
from tests.support.models import check, feeds, run
from tests.support.weighted import SQUARE, K, build, noise


def quantized(model: ir.Model, a_pass: QuantizeWeights) -> PassRun:
    (found,) = Pipeline((Calibrate(), a_pass)).run(model, observe=observe)
    check(model)
    return found


def rules(found: PassRun) -> list[str]:
    return [change.rule for change in found.changes]


@pytest.mark.parametrize("algorithm", ["nearest", "hqq", "gptq", "awq"])
@pytest.mark.parametrize("block", [16, 48, 128])
@pytest.mark.parametrize(("bits", "most"), [(4, 0.06), (8, 2e-4)])
def test_every_way_is_close(algorithm: str, block: int, bits: int, most: float) -> None:
    body = "h = MatMul(x, w) r = Relu(h) y = Gemm <transB = 1> (r, v, b)"
    model = build(body, {"w": SQUARE, "v": SQUARE, "b": (K,)})
    other = model.clone()
    found = quantized(other, QuantizeWeights(bits, block, algorithm, smallest=0))
    assert rules(found).count("quantize-weights") == 2
    assert 0 < noise(model, other) < most


def test_four_bits_take_four_bits() -> None:
    model = build("y = MatMul(x, w)", {"w": SQUARE})
    quantized(model, QuantizeWeights())
    kept = {name: value.const_value for name, value in model.graph.initializers.items()}
    assert set(kept) == {"w_quantized", "w_scale", "w_zero_point"}
    stored = kept["w_quantized"]
    assert isinstance(stored, ir.PackedTensor)
    assert stored.dtype is ir.DataType.UINT4
    assert stored.nbytes == stored.raw.nbytes == K * K // 2


NORMALIZED = "n = RMSNormalization <axis = -1> (x, g) y = MatMul(n, w) y1 = MatMul(n, v)"


def test_scales_of_inputs_go_into_a_normalization() -> None:
    model = build(NORMALIZED, {"g": (K,), "w": SQUARE, "v": SQUARE}, results=2)
    other = model.clone()
    found = quantized(other, QuantizeWeights(algorithm="awq", smallest=0))
    assert rules(found) == ["input-scales", "quantize-weights", "quantize-weights"]
    assert not queries.count_operators(other)["Mul"]
    assert "g" not in other.graph.initializers
    plain = model.clone()
    quantized(plain, QuantizeWeights(smallest=0))
    assert noise(model, other) < 0.9 * noise(model, plain)


@pytest.mark.parametrize(
    ("body", "shapes"),
    [
        pytest.param(NORMALIZED, {"g": (K,), "w": SQUARE, "v": SQUARE}, id="normalization"),
        pytest.param(
            "n = LayerNormalization <axis = 1> (x, g, b) y = MatMul(n, w)",
            {"g": (K,), "b": (K,), "w": SQUARE},
            id="normalization with a bias",
        ),
        pytest.param(
            "h = MatMul(x, w) a = Add(b, h) r = Relu(a) y = MatMul(r, v)",
            {"w": SQUARE, "b": (K,), "v": SQUARE},
            id="bias and Relu",
        ),
        pytest.param(
            "r = Gemm <transB = 1> (x, w, b) y = Gemm(r, v)",
            {"w": SQUARE, "b": (K,), "v": SQUARE},
            id="Gemm",
        ),
        pytest.param(
            "s = Sigmoid(x) h = MatMul(x, w) m = Mul(s, h) y = MatMul(m, v)",
            {"w": SQUARE, "v": SQUARE},
            id="gate",
        ),
        pytest.param(
            "m = Mul(x, g) y = MatMul(m, v)", {"g": (K,), "v": SQUARE}, id="scaled channels"
        ),
        pytest.param(
            """one = Constant <value_ints = [0]> () flat = Constant <value_ints = [16, 64]> ()
            u = Unsqueeze(x, one)
            h = MatMul(u, w) a = Attention <q_num_heads = 4, kv_num_heads = 4> (u, u, h)
            r = Reshape(a, flat) y = MatMul(r, v)""",
            {"w": SQUARE, "v": SQUARE},
            id="values of attention",
        ),
    ],
)
def test_the_division_is_exact(body: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Scales of inputs alone change nothing: only where the roundings fall."""
    model = build(body, shapes, results=1 + ("y1" in body))
    other = model.clone()
    a_pass = QuantizeWeights(bits=8, algorithm="awq", smallest=0, multiply=False)
    steps = Pipeline((Calibrate(), a_pass))
    changes = [change.rule for change in steps.run(model.clone(), observe=observe)[0].changes]
    position = len(changes) - 1 - changes[::-1].index("input-scales")
    steps.run(other, observe=observe, stop=Stop(0, position + 1))
    before = model.clone()
    steps.run(before, observe=observe, stop=Stop(0, position)) if position else None
    assert noise(before, other) < 1e-11
    check(other)


@pytest.mark.parametrize(
    ("body", "shapes", "reason"),
    [
        ("r = Relu(x) m = MatMul(r, w) y = Add(m, r)", {"w": SQUARE}, "Add '' reads it, too"),
        ("r = Relu(x) y = MatMul(r, w)", {"w": SQUARE}, "where it cannot be divided"),
        ("r = Sigmoid(x) y = MatMul(r, w)", {"w": SQUARE}, "comes from Sigmoid '', which cannot"),
        (
            "h = MatMul(x, v) m = Mul(h, h) y = MatMul(m, w)",
            {"w": SQUARE, "v": SQUARE},
            "it is read twice",
        ),
        ("r = MatMul(x, v) y = Gemm(r, w, r)", {"w": SQUARE, "v": SQUARE}, "it is read twice"),
        (
            "half = Constant <value_ints = [32, 32]> () "
            "whole = Constant <value_ints = [16, 64]> () h = MatMul(x, v) "
            "a = Reshape(h, half) s = Relu(a) r = Reshape(s, whole) y = MatMul(r, w)",
            {"w": SQUARE, "v": SQUARE},
            "Reshape '' does not keep the channels",
        ),
        ("a = Add(x, x) y = MatMul(a, w)", {"w": SQUARE}, "of two values"),
        (
            "n = LayerNormalization <axis = 0> (x, g) y = MatMul(n, w)",
            {"g": (16, K), "w": SQUARE},
            "normalizes more than the channels",
        ),
        (
            "y = MatMul(x, w) r = Relu(y) y1 = MatMul(y, v)",
            {"w": SQUARE, "v": SQUARE},
            "Relu '' reads it, too",
        ),
    ],
)
def test_where_nothing_can_be_divided(
    body: str, shapes: Mapping[str, tuple[int, ...]], reason: str
) -> None:
    model = build(body, shapes, results=1 + ("y1" in body))
    other = model.clone()
    found = quantized(other, QuantizeWeights(algorithm="awq", smallest=0, multiply=False))
    reasons = [r.reason for r in found.refusals if r.rule == "input-scales"]
    assert any(reason in text for text in reasons), reasons
    multiplied = model.clone()
    found = quantized(multiplied, QuantizeWeights(algorithm="awq", smallest=0))
    assert not found.refusals
    muls = [queries.count_operators(m)["Mul"] for m in (model, multiplied)]
    assert muls[1] > muls[0]


def test_what_others_read_stays() -> None:
    body = "n = RMSNormalization <axis = -1> (x, g) y = MatMul(n, w) y1 = Mul(x, g)"
    model = build(body, {"g": (K,), "w": SQUARE}, results=2)
    other = model.clone()
    quantized(other, QuantizeWeights(algorithm="awq", smallest=0))
    inputs = feeds(model)
    np.testing.assert_array_equal(run(model, inputs)[1], run(other, inputs)[1])


def test_weights_that_are_not_finite_stay() -> None:
    model = build("y = MatMul(x, w)", {"w": SQUARE})
    array = model.graph.initializers["w"].const_value
    assert array is not None
    broken = array.numpy().copy()
    broken[3, 5] = np.inf
    model.graph.initializers["w"].const_value = ir.Tensor(broken, name="w")
    found = quantized(model, QuantizeWeights())
    assert [r.reason for r in found.refusals] == ["its weights are not all finite"]


def test_layers_that_share_weights_share_integers() -> None:
    model = build("h = MatMul(x, w) y = MatMul(h, w)", {"w": SQUARE})
    found = quantized(model, QuantizeWeights())
    assert found.changes == (
        Change("quantize-weights", "MatMul → h"),
        Change("quantize-weights", "MatMul → y"),
    )
    assert queries.count_operators(model)["DequantizeLinear"] == 1


def test_weights_in_a_file_are_let_go(tmp_path: Path) -> None:
    files.write_onnx(build("y = MatMul(x, w)", {"w": SQUARE}), tmp_path)
    model = files.read_onnx(tmp_path / files.MODEL_FILE)
    infer_shapes(model)
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    QuantizeWeights().call(model)
    assert tensor.raw is None
    assert "w" not in model.graph.initializers


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bits": 3}, "4 or 8 bits, not 3"),
        ({"block": 0}, "give 1 or more"),
        ({"algorithm": "gtpq"}, "did you mean 'gptq'"),
        ({"algorithm": "hqq", "symmetric": True}, "leave symmetric off"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], said: str) -> None:
    with pytest.raises(QuantizationError, match=said):
        QuantizeWeights(**options)  # type: ignore[arg-type]
