"""The backend where a GPU is, which is pretended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import infopt
from infopt.backends import backend_for
from infopt.backends.base import Outcome, RunOptions
from infopt.backends.tensorrt import TensorRtBackend, builder, cuda, plan, runtime
from infopt.backends.tensorrt.builder import Built, Request
from infopt.errors import StrictError, UsageError, VerificationError
from infopt.target import TARGETS
from tests.support import pretended_gpu as gpu
from tests.support.pretended_gpu import Kind, Library, Model, Tensor

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[n,4] x) => (float[n,4] y) <float[1] two = {2}> { [double] y = Mul (x, two) }
"""
PRODUCT = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[n,4] x) => (float[n,4] y) <int8[4,4] q, float s = {0.5}>
{
   [scale] w = DequantizeLinear (q, s)
   [p] y = MatMul (x, w)
}
"""
RANGE = ((1, 4), (2, 4), (8, 4))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """What the pretended TensorRT makes of everything, on a pretended GPU."""
    made = Model(
        {"x": Tensor(Kind.INPUT, (-1, 4), profiles=(RANGE,)), "y": Tensor(Kind.OUTPUT, (-1, 4))}
    )
    library = Library()
    driver = cuda.Driver(library)
    trt = gpu.tensorrt(library, made)
    trt.__version__ = "11.4"
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    monkeypatch.setattr(runtime, "library", lambda target: trt)
    monkeypatch.setattr(runtime, "module_name", lambda target: "pretended")
    monkeypatch.setattr(runtime, "unavailable", lambda target: None)

    def build(request: Request, scratch: Path, progress: object) -> Built:
        request.plan.write_bytes(b"plan")
        return Built("11.4", 0.1, {"elementwise float": 1}, (), timing_cache=False)

    monkeypatch.setattr(builder, "build", build)
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def _optimize(source: Path, **more: Any) -> infopt.Engine:
    output = source.with_name("engine")
    shapes = ["x=1..8x4@2x4"]
    return infopt.optimize(source, output, target="tensorrt", shapes=shapes, measure=False, **more)


TOLD = {
    "Layers": [
        {
            "Name": "double",
            "LayerType": "kgen",
            "Inputs": [{"Name": "x", "Format": "Row major linear", "DataType": "Float"}],
            "Outputs": [{"Name": "y", "Format": "Row major linear", "DataType": "Float"}],
            "Metadata": "[ONNX Layer: double]",
        }
    ]
}


def test_an_engine_is_compared_repeated_and_inspected(model: Model, source: Path) -> None:
    model.told = json.dumps(TOLD)
    engine = _optimize(source, strict=True)
    evidence = engine.manifest.evidence
    assert evidence["equivalence"]["ran"] == "on tensorrt"
    assert evidence["equivalence"]["holds"]
    assert evidence["engine"] == "built for this GPU"
    assert (evidence["repeats"]["times"], evidence["repeats"]["identical"]) == (10, True)
    assert len(evidence["repeats"]["samples"]) == 2
    assert evidence["session"]["cuda_graphs"].startswith("none: shapes differ")
    assert evidence["outcome"]["kernels"] == {"kgen float": 1}
    assert evidence["outcome"]["layers"][0]["nodes"] == ["double"]
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(infopt.load(engine.path)(x=x)["y"], 2 * x)


def test_an_engine_that_computes_something_else_each_time(
    model: Model, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, calls = gpu.Context._compute, iter(range(1000))

    def spoil(self: gpu.Context, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
        compute(self, shape, addresses)
        if next(calls) == 12:  # long after it was compared
            gpu._view(addresses["y"], shape, "FLOAT")[0, 0] += 1e3

    monkeypatch.setattr(gpu.Context, "_compute", spoil)
    with pytest.raises(
        VerificationError, match=r"same each time: output 'y' differs by .* 10 runs"
    ):
        _optimize(source)
    assert not source.with_name("engine").exists()
    forced = _optimize(source, force=True)  # calls go on beyond the bad one
    assert forced.manifest.evidence["repeats"]["identical"]


def test_options_of_a_run_are_taken_with_those_of_the_build(model: Model, source: Path) -> None:
    options = {"cuda_graphs": "on", "contexts": "2", "optimization_level": "1"}
    engine = _optimize(source, provider_options=options)
    assert engine.manifest.evidence["session"] == {"cuda_graphs": "one for each shape"}
    assert engine.manifest.build["options"]["optimization_level"] == 1
    session = infopt.load(engine.path, provider_options={"cuda_graphs": "off"})
    assert session.facts() == {"cuda_graphs": "none: switched off"}
    with pytest.raises(UsageError, match="it is one of auto, on, off"):
        infopt.load(engine.path, provider_options={"cuda_graphs": "maybe"})


def _outcome(directory: Path) -> Outcome:
    proto = onnx.parser.parse_model(PRODUCT.replace("int8[4,4] q, ", ""))
    weight = np.arange(16, dtype=np.int8).reshape(4, 4)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "q"))
    onnx.save(proto, directory / "model.onnx")
    (directory / "engine.plan").write_bytes(b"plan")
    facts = {"runtime": "tensorrt", "version": "11.4", "capabilities": [], "gpu": {}}
    plan.write_facts(directory, {**facts, "options": {"strip_weights": False}})
    backend = backend_for(TARGETS["tensorrt"])
    assert isinstance(backend, TensorRtBackend)
    found = backend.outcome(directory)
    assert found is not None
    return found


def _told(dtype: str) -> str:
    layer = {"Name": "p", "LayerType": "gemm", "Inputs": [{"Name": "x", "DataType": dtype}]}
    return json.dumps({"Layers": [layer]})


def test_a_precision_that_did_not_happen(model: Model, tmp_path: Path) -> None:
    model.told = _told("Half")
    found = _outcome(tmp_path)
    assert (found.integer, found.floating) == (0, ("p",))


def test_a_precision_that_did(model: Model, tmp_path: Path) -> None:
    model.told = _told("Int8")
    assert (_outcome(tmp_path).integer, _outcome(tmp_path).floating) == (1, ())


def test_an_inspector_of_another_language_is_a_note(model: Model, source: Path) -> None:
    model.told = "a page of prose"
    notes = _optimize(source).manifest.evidence["outcome"]["notes"]
    assert len(notes) == 1
    assert "a language that is not known here" in notes[0]
    with pytest.raises(StrictError, match="outcome, notes: TensorRT's inspector"):
        _optimize(source, strict=True)


def test_files_of_others_are_no_engines(model: Model, source: Path) -> None:
    with pytest.raises(infopt.errors.UnavailableError, match="it has to know sizes"):
        backend_for(TARGETS["tensorrt"]).open_model(source, RunOptions())
