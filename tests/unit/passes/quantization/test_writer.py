"""A weight that several products read is stored once, as far as they need the same of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

import infopt
from infopt.ir import files, queries
from infopt.passes.quantization.correct_bias import CorrectBias
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.pipeline import Calibrate, Pipeline
from tests.support.calibrating import observe
from tests.support.models import check, feeds, run
from tests.support.weighted import SQUARE, K, build

SHARING = "a = MatMul(x, w) h = Add(a, b) c = MatMul(h, w) y = Add(c, e)"
ALONE = "a = MatMul(x, w) h = Add(a, b) c = MatMul(h, v) y = Add(c, e)"
BIASES = {"b": (K,), "e": (K,)}


def _weights(model: ir.Model) -> int:
    return sum(tensor.nbytes for tensor in files.tensors(model))


def _quantized(body: str, shapes: dict[str, tuple[int, ...]], *passes: object) -> ir.Model:
    model = build(body, shapes)
    steps = (Calibrate(), QuantizeStatic(), *passes)
    Pipeline(steps).run(model, observe=observe)  # type: ignore[arg-type]
    check(model)
    return model


def test_products_that_share_a_weight_share_its_integers() -> None:
    model = _quantized(SHARING, {"w": SQUARE, **BIASES})
    other = _quantized(ALONE, {"w": SQUARE, "v": SQUARE, **BIASES})
    assert _weights(other) - _weights(model) == K * K + 4 * K  # int8, and a scale for each output
    assert [n for n in model.graph.initializers if n.startswith("w_")] == ["w_quantized", "w_scale"]
    # Each reads them by itself: what follows looks at one product at a time.
    assert queries.count_operators(model)["DequantizeLinear"] == 4


def test_another_axis_is_another_rounding() -> None:
    model = _quantized("h = MatMul(x, w) y = Gemm <transB = 1> (h, w)", {"w": SQUARE})
    assert [name for name in model.graph.initializers if name.startswith("w_q")] == [
        "w_quantized",
        "w_quantized_2",
    ]


def test_the_biases_of_both_are_corrected() -> None:
    """As they are where each product has a copy of the weight for itself."""
    model = _quantized(SHARING, {"w": SQUARE, **BIASES}, CorrectBias())
    copied = build(ALONE, {"w": SQUARE, "v": SQUARE, **BIASES})
    weight = build(SHARING, {"w": SQUARE, **BIASES}).graph.initializers
    for name in ("w", "v"):
        copied.graph.initializers[name].const_value = weight["w"].const_value
    for name in ("b", "e"):
        copied.graph.initializers[name].const_value = weight[name].const_value
    steps = Pipeline((Calibrate(), QuantizeStatic(), CorrectBias()))
    trace = steps.run(copied, observe=observe)
    assert len(trace[-1].changes) == 2
    inputs = feeds(model)
    np.testing.assert_array_equal(run(model, inputs)[0], run(copied, inputs)[0])
    again = CorrectBias().call(model)
    assert not again.modified


def test_engines_hold_shared_weights_once(tmp_path: Path) -> None:
    data = [feeds(build(SHARING, {"w": SQUARE, **BIASES}), seed) for seed in range(8)]
    sizes = {}
    for precision in ("int8", "int4"):
        for name, body, shapes in (
            ("sharing", SHARING, {"w": SQUARE}),
            ("alone", ALONE, {"w": SQUARE, "v": SQUARE}),
        ):
            engine = infopt.optimize(
                build(body, {**shapes, **BIASES}),
                tmp_path / f"{name}-{precision}",
                precision=precision,
                data=data if precision == "int8" else None,
                measure=False,
            )
            outcome = engine.manifest.evidence["outcome"]
            assert (outcome["integer"], outcome["floating"]) == (2, [])
            sizes[name, precision] = engine.manifest.sizes["weights_after"]
    assert sizes["alone", "int8"] - sizes["sharing", "int8"] == K * K + 4 * K
    # Half a byte for each weight; for each block of 32 a scale, and a zero point of half a byte.
    packed = K * K // 2 + K * (K // 32) * 4 + K * (K // 32) // 2
    assert sizes["alone", "int4"] - sizes["sharing", "int4"] == packed
