"""What no calibration sees is refused where it would have been quantized, never left in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import infopt
from infopt.ir import queries
from infopt.passes.observed import unobserved
from infopt.passes.quantization._writer import ORIGINAL
from infopt.passes.quantization.correct_bias import CorrectBias
from infopt.passes.quantization.equalize_layers import EqualizeLayers
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.passes.quantization.quantize_weights import QuantizeWeights
from infopt.pipeline import Calibrate, PassRun, Pipeline
from tests.support.calibrating import observe
from tests.support.models import check, feeds, parse, run

BRANCH = """g (bool c, float[2,4] x) => (float[2,4] y) <float[4,4] w = {WEIGHTS}> {
  y = If (c) <
    then_branch = then () => (float[2,4] t) { n = Neg(x) t = MatMul(n, w) },
    else_branch = else () => (float[2,4] f) { f = MatMul(x, w) }
  >
}"""
LOOP = """g (int64 n, bool c, float[2,4] x) => (float[2,4] y) <float[4,4] w = {WEIGHTS}> {
  y = Loop (n, c, x) <body = b (int64 i, bool k, float[2,4] s) => (bool l, float[2,4] t) {
    l = Identity(k)
    t = MatMul(s, w)
  }>
}"""
PAIR = """g (bool c, float[1,2,4,4] x) => (float[1,2,4,4] y)
<float[2,2,1,1] w = {1, 0, 0, 0.125}, float[2,1,1,1] d = {1, 1}> {
  y = If (c) <
    then_branch = then () => (float[1,2,4,4] t) { h = Conv(x, w) t = Conv <group = 2> (h, d) },
    else_branch = else () => (float[1,2,4,4] f) { f = Neg(x) }
  >
}"""
ROUNDED = """g (bool c, float[2,2] x) => (float[2,2] y)
<int8[2,2] q = {1, 2, 3, 4}, float s = {0.5}, float[2] b = {0.5, -0.5}> {
  y = If (c) <
    then_branch = then () => (float[2,2] t) {
      w = DequantizeLinear(q, s) p = MatMul(x, w) t = Add(p, b)
    },
    else_branch = else () => (float[2,2] f) { f = Neg(x) }
  >
}"""


def _model(text: str) -> ir.Model:
    numbers = np.random.default_rng(0).normal(size=16)
    return parse(text.replace("WEIGHTS", ", ".join(f"{number:.4f}" for number in numbers)))


def _reasons(found: PassRun) -> set[tuple[str, str]]:
    return {(refusal.node.rpartition(" → ")[2], refusal.reason) for refusal in found.refusals}


def test_every_graph_inside_is_named_once() -> None:
    for text, count in ((BRANCH, 2), (LOOP, 1)):
        assert len(list(unobserved(_model(text)))) == count
    assert not list(unobserved(parse("g (float[2] x) => (float[2] y) { y = Neg(x) }")))


@pytest.mark.parametrize(
    ("text", "places", "where"),
    [(BRANCH, {"t", "f"}, "a branch"), (LOOP, {"t"}, "a loop")],
    ids=["branch", "loop"],
)
def test_quantize_static_says_so(text: str, places: set[str], where: str) -> None:
    (found,) = Pipeline((Calibrate(), QuantizeStatic())).run(_model(text), observe=observe)
    assert not found.changes
    reason = f"its values are not observed inside {where}; int8-dynamic and int4 need no data"
    assert _reasons(found) == {(place, reason) for place in places}


def test_equalize_layers_says_so() -> None:
    (found,) = Pipeline((Calibrate(), EqualizeLayers())).run(_model(PAIR), observe=observe)
    assert not found.changes
    ((place, reason),) = _reasons(found)
    assert place == "t"
    assert "not observed inside a branch" in reason


def test_correct_bias_says_so() -> None:
    model = _model(ROUNDED)
    stored = model.graph.initializers["q"]
    stored.meta[ORIGINAL] = ir.Tensor(np.ones((2, 2), np.float32))
    (found,) = Pipeline((Calibrate(), CorrectBias())).run(model, observe=observe)
    assert not found.changes
    ((place, reason),) = _reasons(found)
    assert place == "p"
    assert "not observed inside a branch" in reason


@pytest.mark.parametrize("text", [BRANCH, LOOP], ids=["branch", "loop"])
@pytest.mark.parametrize("algorithm", ["nearest", "hqq"])
def test_weights_inside_are_quantized_without_data(text: str, algorithm: str) -> None:
    model = _model(text)
    other = model.clone()
    places = len(list(unobserved(model)))
    a_pass = QuantizeWeights(bits=8, algorithm=algorithm, smallest=0)
    found = a_pass.call(other)
    check(other)
    assert len(found.journal.changes) == places
    assert not found.journal.refusals
    assert "w" not in other.graph.initializers
    inputs = {**feeds(model), "c": np.array(True)}
    before, after = (run(each, inputs)[0].astype(np.float64) for each in (model, other))
    np.testing.assert_allclose(after, before, atol=0.02 * float(np.abs(before).max()))


@pytest.mark.parametrize("algorithm", ["gptq", "awq"])
def test_weights_inside_are_quantized_where_their_input_was_observed(algorithm: str) -> None:
    """The input of one branch is computed outside, that of the other one inside."""
    model = _model(BRANCH)
    a_pass = QuantizeWeights(algorithm=algorithm, smallest=0, block=16)
    (found,) = Pipeline((Calibrate(), a_pass)).run(model, observe=observe)
    check(model)
    quantized = [change.node for change in found.changes if change.rule == a_pass.name]
    assert quantized == ["MatMul → f"]
    reasons = {reason for place, reason in _reasons(found) if place == "t"}
    assert reasons == {
        "its values are not observed inside a branch; algorithm=hqq and algorithm=nearest need "
        "no data"
    }


def test_a_value_of_a_function_is_not_taken_for_one_of_the_same_name() -> None:
    model = parse(
        """<ir_version: 11, opset_import: ["" : 24, "local" : 1]>
        g (float[2,2] x) => (float[2,2] y, float[2,2] z)
        <float[2,2] w = {1, 2, 3, 4}> { z = local.layer(x) y = MatMul(x, w) }
        <domain: "local", opset_import: ["" : 24]>
        layer (x) => (y) { v = Constant <value = float[2,2] {1, 2, 3, 4}> () y = MatMul(x, v) }"""
    )
    (function,) = model.functions.values()
    function.inputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    weights = function[0].outputs[0]
    weights.type, weights.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([2, 2])
    a_pass = QuantizeWeights(algorithm="gptq", smallest=0)
    (found,) = Pipeline((Calibrate(), a_pass)).run(model, observe=observe)
    assert len(found.changes) == 1
    reasons = [refusal.reason for refusal in found.refusals if refusal.rule == a_pass.name]
    assert reasons == [
        "its values are not observed inside a function; put inline-functions before calibrate"
    ]


def test_the_manifest_names_them(tmp_path: Path) -> None:
    model = _model(BRANCH)
    onnx.save(ir.to_proto(model), tmp_path / "m.onnx")
    data = [feeds(model, seed) for seed in range(4)]
    engine = infopt.optimize(
        tmp_path / "m.onnx", tmp_path / "e", precision="int8", data=data, measure=False
    )
    reasons = [
        refusal["reason"]
        for found in engine.manifest.passes
        if found["spec"].startswith("quantize-static")
        for refusal in found["refusals"]
    ]
    assert len(reasons) == 2
    assert all("not observed inside a branch" in reason for reason in reasons)


def test_weights_in_a_branch_of_an_engine(tmp_path: Path) -> None:
    model = _model(BRANCH)
    onnx.save(ir.to_proto(model), tmp_path / "m.onnx")
    engine = infopt.optimize(
        tmp_path / "m.onnx",
        tmp_path / "e",
        precision="int4",
        scheme="smallest=0,bits=8",
        measure=False,
    )
    assert engine.manifest.evidence["equivalence"]["holds"]
    inside = ir.load(tmp_path / "e" / "model.onnx")
    assert queries.count_operators(inside)["com.microsoft::MatMulNBits"] == 2
