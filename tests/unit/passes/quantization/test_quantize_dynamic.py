"""Integers with ranges that are found as it runs: how close, how much, and what bad weights do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from infopt.errors import QuantizationError
from infopt.ir import files, queries
from infopt.ir.shapes import infer_shapes
from infopt.passes.legalization.lower_quantized_products import LowerQuantizedProducts
from infopt.passes.quantization.quantize_dynamic import QuantizeDynamic
from infopt.quant.affine import fake_quantize, parameters, weight_range
from infopt.quant.granularity import PerAxis, PerTensor
from infopt.quant.spec import QuantSpec
from tests.support.activations import layer
from tests.support.models import Array, check, run

ALL = QuantizeDynamic(smallest=0)


def build(
    body: str,
    weights: Mapping[str, Array],
    *,
    x: str = "float[M,K] x",
    y: str = "float[M,N] y",
    opset: int = 24,
) -> ir.Model:
    """A model with these initializers."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 11, opset_import: ["" : {opset}]> g ({x}) => ({y}) {{ {body} }}'
    )
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def product(weights: Array) -> ir.Model:
    return build("y = MatMul(x, w)", {"w": weights})


def reasons(model: ir.Model, a_pass: QuantizeDynamic = ALL) -> list[str]:
    result = a_pass.call(model)
    assert not result.modified
    return [refusal.reason for refusal in result.journal.refusals]


def noise(found: Array, right: Array) -> float:
    """Squared difference, relative to the square."""
    a, b = found.astype(np.float64), right.astype(np.float64)
    return float(((a - b) ** 2).sum() / (b**2).sum())


@pytest.mark.parametrize("lowered", [False, True])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("weights", ["int8", "uint8"])
def test_it_computes_what_rounded_numbers_do(
    weights: str, per_channel: bool, lowered: bool
) -> None:
    """The same in numpy: activations and weights rounded to their grids, multiplied in float64."""
    sample = layer(48, 96, 40)
    model = product(np.ascontiguousarray(sample.weight.T))
    QuantizeDynamic("MatMul", weights, per_channel, 0).call(model)
    if lowered:
        assert LowerQuantizedProducts().call(model).modified
    check(model)
    (found,) = run(model, {"x": sample.inputs})

    grid = QuantSpec(ir.DataType.UINT8, symmetric=False)
    x = fake_quantize(sample.inputs, parameters(*_ends(sample.inputs), grid), grid)
    spec = QuantSpec(
        ir.DataType[weights.upper()], PerAxis(0) if per_channel else PerTensor(), narrow=True
    )
    rounded = fake_quantize(
        sample.weight, parameters(*weight_range(sample.weight, spec.granularity), spec), spec
    )
    expected = x.astype(np.float64) @ rounded.T.astype(np.float64)
    wide = found.astype(np.float64)
    np.testing.assert_allclose(wide, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert 0 < noise(found, sample.inputs @ sample.weight.T) < 0.01


def _ends(array: Array) -> tuple[Array, Array]:
    return np.minimum(array.min(), 0), np.maximum(array.max(), 0)


@pytest.mark.parametrize("seed", range(5))
def test_no_more_error_than_onnxruntimes_own(seed: int, tmp_path: Path) -> None:
    """Beside ``quantize_dynamic``, both with a scale for each channel, and with one for all."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    first, second = layer(64, 128, 50, seed), layer(32, 64, 1, seed + 100)
    model = build(
        "h = MatMul(x, w) a = Add(h, b) r = Relu(a) y = MatMul(r, v)",
        {
            "w": np.ascontiguousarray(first.weight.T),
            "b": np.linspace(-1, 1, 64, dtype=np.float32),
            "v": np.ascontiguousarray(second.weight.T),
        },
    )
    (right,) = run(model, {"x": first.inputs})
    onnx.save(ir.to_proto(model), tmp_path / "model.onnx")
    for per_channel in (True, False):
        quantize_dynamic(
            tmp_path / "model.onnx",
            tmp_path / "theirs.onnx",
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
        )
        (theirs,) = run(onnx.load(tmp_path / "theirs.onnx"), {"x": first.inputs})
        ours = model.clone()
        QuantizeDynamic(per_channel=per_channel, smallest=0).call(ours)
        LowerQuantizedProducts().call(ours)
        (found,) = run(ours, {"x": first.inputs})
        assert noise(found, right) <= 1.02 * noise(theirs, right)


def test_a_channel_of_zeros_stays_zero() -> None:
    weights = layer(8, 16, 1).weight.T.copy()
    weights[:, 3] = 0
    model = product(weights)
    ALL.call(model)
    check(model)
    (found,) = run(model, {"x": layer(8, 16, 5).inputs})
    assert (found[:, 3] == 0).all()
    assert (found[:, 2] != 0).any()


@pytest.mark.parametrize("weights", ["int8", "uint8"])
def test_nothing_but_zeros(weights: str) -> None:
    model = product(np.zeros((4, 3), np.float32))
    QuantizeDynamic(weights=weights, smallest=0).call(model)
    for x in (np.ones((2, 4), np.float32), np.zeros((2, 4), np.float32)):
        (found,) = run(model, {"x": x})
        assert (found == np.zeros((2, 3))).all()


@pytest.mark.parametrize("lowered", [False, True])
@pytest.mark.parametrize(
    ("x", "y", "shape"),
    [
        ("float[M,K] x", "float[M,N] y", (0, 16)),
        ("float[M,K] x", "float[M,N] y", (1, 16)),
        ("float[K] x", "float[N] y", (16,)),
        ("float[A,M,K] x", "float[A,M,N] y", (2, 0, 16)),
        ("float[A,B,M,K] x", "float[A,B,M,N] y", (2, 3, 4, 16)),
    ],
)
def test_any_rank_and_no_rows(x: str, y: str, shape: tuple[int, ...], lowered: bool) -> None:
    weights = layer(8, 16, 1).weight.T.copy()
    model = build("y = MatMul(x, w)", {"w": weights}, x=x, y=y)
    ALL.call(model)
    if lowered:
        LowerQuantizedProducts().call(model)
    check(model)
    inputs = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    (found,) = run(model, {"x": inputs})
    expected = inputs @ weights
    assert found.shape == expected.shape
    assert not found.size or noise(found, expected) < 1e-3


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 5), (5, 1)])
def test_sizes_of_one(inputs: int, outputs: int) -> None:
    weights = np.linspace(-1, 2, inputs * outputs, dtype=np.float32).reshape(inputs, outputs)
    bias = np.linspace(0, 1, outputs, dtype=np.float32)
    model = build("p = MatMul(x, w) y = Add(p, b)", {"w": weights, "b": bias})
    ALL.call(model)
    LowerQuantizedProducts().call(model)
    x = np.random.default_rng(0).normal(0, 1, (4, inputs)).astype(np.float32)
    (found,) = run(model, {"x": x})
    assert noise(found, x @ weights + bias) < 1e-3


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_weights_are_left_alone(shape: tuple[int, int]) -> None:
    model = product(np.zeros(shape, np.float32))
    assert reasons(model) == ["its weights have 0 elements, fewer than 1"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(bad: float) -> None:
    weights = np.ones((4, 3), np.float32)
    weights[2, 1] = bad
    assert reasons(product(weights)) == ["its weights are not all finite"]


def test_sums_that_could_overflow() -> None:
    """66,311 products of 255 and 127 fit into 32 bits, one more does not."""
    weights = np.ones((66_311, 1), np.float32)
    model = product(weights)
    assert ALL.call(model).modified
    (found,) = run(model, {"x": np.ones((1, 66_311), np.float32)})
    np.testing.assert_allclose(found.astype(np.float64), [[66_311]], rtol=1e-6)
    (reason,) = reasons(product(np.ones((66_312, 1), np.float32)))
    assert reason == "sums over its 66,312 inputs may not fit into 32 bits"


def test_the_smallest_is_an_option() -> None:
    model = product(layer(63, 64, 1).weight.T.copy())
    assert reasons(model, QuantizeDynamic()) == [
        "its weights have 4,032 elements, fewer than 4,096"
    ]
    assert QuantizeDynamic(smallest=4032).call(model).modified


def test_a_default_that_a_caller_may_override_is_no_constant() -> None:
    model = build(
        "y = MatMul(x, w)",
        {"w": np.ones((4, 3), np.float32)},
        x="float[M,4] x, float[4,3] w",
    )
    assert reasons(model) == ["it multiplies two activations"]


def test_shared_weights_and_inputs_are_there_once() -> None:
    body = "a = MatMul(x, w) b = MatMul(x, w) c = Gemm(x, w) s = Add(a, b) y = Add(s, c)"
    model = build(body, {"w": layer(16, 16, 1).weight})
    ALL.call(model)
    assert set(model.graph.initializers) == {"w_quantized", "w_scale"}
    counted = queries.count_operators(model)
    assert (counted["DynamicQuantizeLinear"], counted["MatMulInteger"]) == (1, 3)


def test_weights_that_somebody_else_reads_stay_for_them() -> None:
    model = build(
        "h = Gather(w, i) y = MatMul(h, w)",
        {"w": layer(16, 16, 1).weight},
        x="int64[M] i",
    )
    ALL.call(model)
    assert set(model.graph.initializers) == {"w", "w_quantized", "w_scale"}


@pytest.mark.parametrize("names", [("body", "Loop"), ("body", "Scan")])
def test_in_loops(names: tuple[str, str]) -> None:
    """An outer value and one of the loop's own; the weights are stored outside."""
    loop = """
        yes = Constant <value = bool {1}> ()
        y, rows = Loop (n, yes, x) <
            body = body (int64 i, bool go, float[M,16] v)
                => (bool go2, float[M,16] v2, float[M,16] row) {
                go2 = Identity(go)
                p = MatMul(v, w)
                q = MatMul(x, w)
                v2 = Add(p, q)
                row = Identity(p)
            }
        >"""
    scan = """
        y, rows = Scan <num_scan_inputs = 1,
            body = body (float[M,16] v, int64 i) => (float[M,16] v2, float[M,16] row) {
                p = MatMul(v, w)
                q = MatMul(x, w)
                v2 = Add(p, q)
                row = Identity(p)
            }
        > (x, steps)"""
    body = loop if names[1] == "Loop" else scan
    extra = "int64 n" if names[1] == "Loop" else "int64[T] steps"
    model = build(
        body,
        {"w": layer(16, 16, 1).weight / 4},
        x=f"float[M,16] x, {extra}",
        y="float[M,16] y, float[T,M,16] rows",
    )
    x = np.random.default_rng(0).normal(0, 1, (3, 16)).astype(np.float32)
    inputs: dict[str, Array] = {"x": x, "n": np.array(4), "steps": np.arange(4)}
    right = run(model, inputs)
    result = ALL.call(model)
    assert len(result.journal.changes) == 2
    check(model)
    assert set(model.graph.initializers) == {"w_quantized", "w_scale"}
    for found, expected in zip(run(model, inputs), right, strict=True):
        assert noise(found, expected) < 1e-3


def test_weights_in_a_file(tmp_path: Path) -> None:
    weights = layer(64, 64, 1).weight
    files.write_onnx(product(weights), tmp_path)
    model = files.read_onnx(tmp_path / files.MODEL_FILE)
    x = layer(64, 64, 9).inputs
    assert ALL.call(model).modified
    (found,) = run(model, {"x": x})
    assert noise(found, x @ weights) < 0.01


def test_rows_are_rounded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is rounded at once does not change what comes out."""
    from infopt.passes.quantization import quantize_dynamic

    weights = layer(24, 50, 1).weight.T.copy()
    whole, parts = product(weights), product(weights)
    ALL.call(whole)
    monkeypatch.setattr(quantize_dynamic, "ROOM", 70)
    ALL.call(parts)
    for name in ("w_quantized", "w_scale"):
        a, b = (queries.constant(m.graph.initializers[name]) for m in (whole, parts))
        assert a is not None
        assert b is not None
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"operators": "MatMul+Conv"}, "no operators 'Conv'; use MatMul or Gemm"),
        ({"operators": "Matmul"}, "no operators 'Matmul'; did you mean 'MatMul'"),
        ({"weights": "int4"}, "no weights 'int4'; did you mean 'int8'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, str], said: str) -> None:
    with pytest.raises(QuantizationError, match=said):
        QuantizeDynamic(**options)  # type: ignore[arg-type]
