"""What legalization chooses is what was measured, and always runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest

import infopt
from benchmarks import kernels
from infopt.backends.base import RunOptions
from infopt.backends.onnxruntime.choices import CHOICES, Choice, disabled_optimizers, legalization
from infopt.backends.onnxruntime.session import OrtSession

CPU = "CPUExecutionProvider"
MEASURED = json.loads(Path("docs/benchmarks/kernels.json").read_text())["results"]["cases"]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.benchmark)
def test_a_choice_is_the_fastest_that_was_measured(choice: Choice) -> None:
    rows = MEASURED[choice.benchmark]
    case = next(case for case in kernels.CASES if case.name == choice.benchmark)
    assert [row["sizes"] for row in rows] == [dict(sizes) for sizes in case.sizes]
    others = [way for way in rows[0]["ways"] if way != choice.kept]
    assert others
    for way in others:
        ratios = [row["ways"][way]["relative"]["value"] for row in rows]
        assert math.exp(sum(map(math.log, ratios)) / len(ratios)) <= 1.02, way


@pytest.mark.parametrize("case", kernels.CASES, ids=lambda case: case.name)
def test_all_ways_compute_the_same(case: kernels.Case, tmp_path: Path) -> None:
    sizes = {**case.sizes[0], "B": 2, "S": 32}
    feeds: dict[str, np.ndarray] = {}
    results = []
    for way in case.ways:
        onnx.save(kernels.model(case, way, sizes), tmp_path / "m.onnx")
        session = OrtSession(tmp_path / "m.onnx", CPU, RunOptions())
        rng = np.random.default_rng(0)
        for value in session.inputs:
            shape = [size for size in value.shape or () if isinstance(size, int)]
            feeds.setdefault(value.name, rng.normal(size=shape).astype(np.float32))
        results.append(session(feeds)[session.outputs[0].name])
    allowed = 1e-5 + case.rounding * float(np.abs(results[0]).max())
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-4, atol=allowed)


def test_a_provider_that_was_not_measured_keeps_all_that_is_about_speed() -> None:
    assert disabled_optimizers("CUDAExecutionProvider") == ["WeightBiasQuantization"]
    assert [str(p).partition("{")[0] for p in legalization("CUDAExecutionProvider")] == [
        "expand-operators"
    ]


def test_raised_operators_run_beside_one_whose_kernel_ends_early(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]>
        g (float[N,4,8] x) => (float[N,4,1] y)
        {
          s = Sigmoid(x)
          w = Mul(x, s)
          q = Mul(w, w)
          axis = Constant <value_ints = [-1]> ()
          m = ReduceMean(q, axis)
          e = Constant <value_float = 0.00001> ()
          me = Add(m, e)
          r = Sqrt(me)
          a = Div(w, r)
          y = GlobalLpPool(a)
        }"""
    )
    onnx.save(model, tmp_path / "model.onnx")
    engine = infopt.optimize(tmp_path / "model.onnx", tmp_path / "engine", measure=False)
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 4, 8)
    import onnxruntime as ort

    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=[CPU])
    found = infopt.load(engine.path)(x=x)["y"]
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], rtol=1e-5)
