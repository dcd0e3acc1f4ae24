"""Weights with a scale for each output: what GPTQ is asked to do, and what is said of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from infopt.passes.base import Pass
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.passes.quantization.quantize_weights import QuantizeWeights
from infopt.pipeline import Calibrate, PassRun, Pipeline
from tests.support.calibrating import observe, observe_on
from tests.support.models import parse
from tests.support.weighted import SQUARE, K, build

PASSES = [QuantizeStatic(algorithm="gptq"), QuantizeWeights(algorithm="gptq", smallest=0)]


def _notes(found: PassRun) -> list[str]:
    return [refusal.reason for refusal in found.refusals if refusal.rule == "gptq"]


def _run(a_pass: Pass, model: ir.Model, rows: int) -> PassRun:
    def few(model: ir.Model, wanted: object) -> object:
        x = np.random.default_rng(0).normal(size=(rows, K)).astype(np.float32)
        return observe_on(model, wanted, [{"x": x}])  # type: ignore[arg-type]

    (found,) = Pipeline((Calibrate(), a_pass)).run(model, observe=few)  # type: ignore[arg-type]
    return found


def _loose() -> ir.Model:
    model = build("y = MatMul(x, w)", {"w": SQUARE})
    model.graph.inputs[0].shape = ir.Shape(["N", K])
    model.graph.outputs[0].shape = ir.Shape(["N", K])
    return model


@pytest.mark.parametrize("a_pass", PASSES, ids=lambda a_pass: a_pass.name)
@pytest.mark.parametrize("rows", [1, 5])
def test_fewer_rows_than_channels_are_told(a_pass: Pass, rows: int) -> None:
    found = _run(a_pass, _loose(), rows)
    assert len(found.changes) == 1
    (note, *_) = _notes(found)
    assert f"'x' has 64 channels and was observed in {rows} row" in note
    assert "give more data" in note


@pytest.mark.parametrize("a_pass", PASSES, ids=lambda a_pass: a_pass.name)
def test_enough_rows_are_not_spoken_of(a_pass: Pass) -> None:
    model = build("y = MatMul(x, w)", {"w": SQUARE})
    (found,) = Pipeline((Calibrate(), a_pass)).run(model, observe=observe)  # 128 rows
    assert len(found.changes) == 1
    assert not _notes(found)


def test_where_it_does_not_apply_is_told() -> None:
    model = parse(
        """g (float[1,2,4,4] x) => (float[1,2,2,2] y)
        <float[2,2,3,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9,
                             1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9}>
        { y = Conv(x, w) }"""
    )
    (found,) = Pipeline((Calibrate(), PASSES[0])).run(model, observe=observe)
    assert len(found.changes) == 1
    assert _notes(found) == [
        "an output depends on several vectors of inputs; it was rounded to nearest"
    ]


def test_a_tiny_weight_beside_a_large_bias_is_told() -> None:
    model = build("y = Gemm(x, w, b)", {"w": SQUARE, "b": (K,)})
    for name, factor in (("w", 1e-12), ("b", 1e3)):
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None
        array = (tensor.numpy() * np.float32(factor)).astype(np.float32)
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    (found,) = Pipeline((Calibrate(), PASSES[0])).run(model, observe=observe)
    assert _notes(found) == ["its weights are tiny beside its bias; they were rounded to nearest"]
