from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from tests.cli.support import Run, document, perceptron


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The same model with a second layer that is a little larger."""
    path = tmp_path / "other.onnx"
    onnx.save(perceptron(scale=1.01), path)
    return path


def test_an_engine_computes_what_its_model_does(infopt: Run, model: Path, engine: Path) -> None:
    result = infopt("compare", engine, model)
    assert result.exit_code == 0
    assert result.stdout.startswith("The same  every output within 0.0001")
    assert re.search(r"scores +0 +0 +∞ +1", result.stdout)
    assert "2 samples" in result.stdout


def test_a_different_model_fails_the_check(infopt: Run, model: Path, other: Path) -> None:
    result = infopt("compare", other, model)
    assert result.exit_code == 1
    assert result.stdout.startswith("Different  2 samples beyond 0.0001")
    assert re.search(r"scores +\S+ +1.0e-02 +40 dB +0.999999", result.stdout)
    assert result.stderr.strip().startswith("Checked")


def test_the_tolerance_decides(infopt: Run, model: Path, other: Path) -> None:
    assert infopt("compare", other, model, "--tolerance", "0.02").exit_code == 0
    assert infopt("compare", other, model, "--tolerance", "0.005").exit_code == 1
    assert infopt("compare", other, model, "--tolerance", "-1").exit_code == 2


def test_json(infopt: Run, model: Path, other: Path, engine: Path) -> None:
    same = document(infopt("compare", engine, model, "--json", "--shape", "x=3x8"))
    assert same["holds"] is True
    assert same["samples"] == ["synthetic, seed 0: x=3×8"]
    assert same["outputs"]["scores"]["max_absolute"] == 0
    assert same["outputs"]["scores"]["sqnr_db"] == "inf"  # JSON has no infinity
    result = infopt("compare", other, model, "--json")
    assert result.exit_code == 1
    assert document(result)["outputs"]["scores"]["max_relative"] == pytest.approx(0.01, rel=0.01)


def test_models_that_cannot_be_compared(infopt: Run, model: Path, tmp_path: Path) -> None:
    narrow = tmp_path / "narrow.onnx"
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> '
        "g (float[n,3] z) => (float[n,3] scores) { scores = Relu(z) }"
    )
    onnx.save(onnx.parser.parse_model(text), narrow)
    result = infopt("compare", narrow, model)
    assert result.exit_code in (2, 3)
    assert "'x'" in result.stderr
    assert "Traceback" not in result.stderr


def test_per_layer_shows_where_they_part(infopt: Run, model: Path, other: Path) -> None:
    result = infopt("compare", other, model, "--per-layer")
    assert result.exit_code == 1
    assert "Layer by layer  6 of 6 values inside were matched" in result.stdout
    assert "they part ways at dense2 (MatMul): relative error 1.0e-02, 40 dB" in result.stdout
    everything = infopt("compare", other, model, "--per-layer", "-v").stdout
    assert re.search(r"h1 +dense1 +MatMul +name +0 +∞", everything)
    assert re.search(r"scores +dense2 +MatMul +name +1.0e-02 +40 dB +diverges", everything)


def test_per_layer_of_an_engine(infopt: Run, model: Path, engine: Path) -> None:
    result = infopt("compare", engine, model, "--per-layer")
    assert result.exit_code == 0
    assert "nowhere beyond 0.0001" in result.stdout


def test_per_layer_json(infopt: Run, model: Path, other: Path) -> None:
    found = document(infopt("compare", other, model, "--per-layer", "--json"))
    assert found["per_layer"]["first"]["node"] == "dense2"
    assert found["candidate"] == str(other)
    assert found["per_layer"]["tensors"][0]["difference"]["sqnr_db"] == "inf"


def test_a_report_has_the_layers_in_any_case(
    infopt: Run, model: Path, other: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    result = infopt("compare", other, model, "--report", tmp_path / "r.html")
    assert result.exit_code == 1
    assert "they part ways at dense2" in result.stdout
    assert "dense2" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written(infopt: Run, model: Path, tmp_path: Path) -> None:
    for command in (["compare", model, model], ["bench", model], ["optimize", model]):
        result = infopt(*command, "--report", tmp_path)
        assert result.exit_code == 2
        assert "is a directory; name a file" in result.stderr
