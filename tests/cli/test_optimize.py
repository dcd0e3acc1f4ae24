from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import infopt as library
from infopt import api
from infopt.engine import open_engine
from infopt.errors import StrictError
from infopt.ir import queries
from infopt.passes import PASSES
from infopt.passes.base import Journal, Pass, Preserves
from tests.cli.support import Run, document, no_leftovers, perceptron


def test_an_engine_that_loads_and_computes(infopt: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.engine"
    result = infopt("optimize", model, "-o", output, "--no-bench")
    assert result.exit_code == 0, result.stderr
    x = np.ones((2, 8), np.float32)
    scores = library.load(output)(x=x)["scores"]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in perceptron().graph.initializer}
    expected = np.maximum(x @ weights["w1"], 0) @ weights["w2"]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_the_report(infopt: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.engine"
    result = infopt("optimize", model, "-o", output, "--shape", "batch=1..4", columns=100)
    assert result.exit_code == 0, result.stderr
    report = result.stdout
    assert re.search(r"What changed +7 → 3 nodes", report)
    assert re.search(r"eliminate-noops +−\d +\d", report)
    assert "without a change" in report
    assert "How exact  every output within 0.0001" in report
    assert re.search(r"scores +0 +0 +∞ +1", report)
    assert "x=1×8" in report
    assert "x=4×8" in report
    assert "How fast" in report
    assert re.search(r"engine +[\d.]+ .s +[\d.]+ .s +[\d.]+ .s +[\d.]+× +[\d.]+–[\d.]+", report)
    assert re.search(r"How large +768 B of weights", report)
    assert f"infopt.load('{output}')" in report
    assert "outputs = session(x=…)" in report


def test_progress_goes_to_stderr_line_by_line(infopt: Run, model: Path, tmp_path: Path) -> None:
    result = infopt("optimize", model, "-o", tmp_path / "out.engine", "--no-bench")
    verbs = [line.split()[0] for line in result.stderr.splitlines() if line]
    assert verbs == ["Imported", "Checked", "Optimized", "Compiled", "Checked", "Wrote"]


def test_quiet_says_nothing(infopt: Run, model: Path, tmp_path: Path) -> None:
    result = infopt("optimize", model, "-o", tmp_path / "out.engine", "--no-bench", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_json_is_the_manifest(infopt: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.engine"
    result = infopt("optimize", model, "-o", output, "--no-verify", "--json")
    found = document(result)
    assert found["engine"] == str(output)
    assert found["bytes"] == sum(
        file.stat().st_size for file in output.iterdir() if file.name != "manifest.json"
    )
    manifest = found["manifest"]
    assert manifest["sizes"]["nodes_before"] == 7
    assert manifest["evidence"]["equivalence"].startswith("not measured")
    assert manifest["evidence"]["speed"].startswith("not measured")


def test_what_was_not_verified_is_said(infopt: Run, model: Path, tmp_path: Path) -> None:
    report = infopt("optimize", model, "-o", tmp_path / "out.engine", "--no-verify").stdout
    assert re.search(r"How exact +not measured", report)
    assert re.search(r"How fast +not measured", report)


def test_verbose_shows_every_run(infopt: Run, model: Path, tmp_path: Path) -> None:
    result = infopt("optimize", model, "-o", tmp_path / "out.engine", "--no-bench", "-v")
    assert re.search(r"eliminate-noops +\d → \d", result.stdout)
    assert re.search(r"\d+ runs without a change", result.stdout)


def test_the_default_output_lies_here(
    infopt: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert infopt("optimize", model, "--no-verify").exit_code == 0
    no_leftovers(here, "perceptron.engine")


def test_user_data_from_a_file(infopt: Run, model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, x=np.ones((5, 8), np.float32))
    result = infopt("optimize", model, "-o", tmp_path / "e", "--data", data, "--no-bench", "--json")
    evidence = document(result)["manifest"]["evidence"]["equivalence"]
    assert evidence["samples"] == ["data.npz: x=5×8"]


@dataclasses.dataclass(frozen=True)
class NegateRelu(Pass):
    """A pass that is wrong: Relu becomes Neg."""

    name: ClassVar[str] = "negate-relu"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        for node in queries.nodes(model):
            if node.op_type == "Relu" and journal.permits("negate", node):
                node.op_type = "Neg"
            elif node.op_type == "MatMul":
                journal.refuse("negate", node, "a MatMul has no sign")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> str:
    """A pipeline whose middle pass breaks the model."""
    monkeypatch.setitem(PASSES, NegateRelu.name, NegateRelu)
    return "eliminate-dead-code,negate-relu,eliminate-noops"


def test_a_broken_pass_is_named_and_nothing_written(
    infopt: Run, model: Path, tmp_path: Path, broken: str
) -> None:
    result = infopt("optimize", model, "-o", tmp_path / "e", "--pipeline", broken)
    assert result.exit_code == 1
    assert "negate-relu" in result.stderr
    assert "'relu'" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    no_leftovers(tmp_path, "perceptron.onnx")
    failed = infopt("optimize", model, "-o", tmp_path / "e", "--pipeline", broken, "--json")
    assert document(failed)["error"]["type"] == "VerificationError"


def test_force_writes_it_and_says_so(infopt: Run, model: Path, tmp_path: Path, broken: str) -> None:
    arguments = ("optimize", model, "-o", tmp_path / "e", "--pipeline", broken, "--force")
    result = infopt(*arguments, "--no-bench", "-v")
    assert result.exit_code == 0
    assert "beyond 0.0001" in result.stdout
    assert "guilty: negate-relu, rule negate at relu" in result.stdout
    assert re.search(r"negate-relu: negate +dense1 and 1 more +a MatMul has no sign", result.stdout)
    shown = infopt("inspect", tmp_path / "e").stdout
    assert "beyond 0.0001" in shown


def test_strict_is_a_failed_check(infopt: Run, model: Path, tmp_path: Path) -> None:
    result = infopt("optimize", model, "-o", tmp_path / "e", "--no-verify", "--strict")
    assert result.exit_code == StrictError.exit_code == 1
    no_leftovers(tmp_path, "perceptron.onnx")


def test_a_defect_keeps_its_traceback(
    infopt: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr(api, "optimize", fail)
    result = infopt("optimize", model, "--json")
    assert result.exit_code == 3
    assert "Traceback (most recent call last)" in result.stderr
    assert "please report it" in result.stderr
    assert document(result)["error"] == {
        "type": "ZeroDivisionError",
        "message": "ZeroDivisionError: a slip",
    }


def test_provider_options_reach_the_runtime(infopt: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.engine"
    option = "--provider-option"
    result = infopt("optimize", model, "-o", output, "--no-bench", option, "use_arena=0")
    assert result.exit_code == 0, result.stderr
    result = infopt("optimize", model, "-o", output, option, "use_arena")
    assert result.exit_code == 2
    assert "write KEY=VALUE" in result.stderr


def test_integers_without_data(infopt: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.engine"
    common = ("optimize", model, "-o", output, "--precision", "int8-dynamic", "--no-bench")
    result = infopt(*common, "--scheme", "smallest=0", columns=120)
    assert result.exit_code == 0, result.stderr
    report = " ".join(result.stdout.split())
    assert "2 of 2 quantized products run on integers; 2 round their inputs to 8 bits" in report
    assert "lower-quantized-products" in open_engine(output).manifest.pipeline
    refused = infopt(*common, "--target", "onnxruntime:cuda")
    assert refused.exit_code == 2
    assert "choose fp16, bf16 or int4" in " ".join(refused.stderr.split()).lower()


def test_weights_of_four_bits(infopt: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.engine"
    common = ("optimize", model, "-o", output, "--precision", "int4", "--no-bench", "--scheme")
    result = infopt(*common, "smallest=0,algorithm=nearest", columns=120)
    assert result.exit_code == 0, result.stderr
    report = " ".join(result.stdout.split())
    assert "2 of 2 quantized products run on integers; 2 round their inputs to 8 bits" in report
    assert "quantize-weights{smallest=0}" in open_engine(output).manifest.pipeline
    refused = infopt(*common, "blok=64")
    assert refused.exit_code == 2
    assert "no option 'blok'; did you mean 'block'" in refused.stderr
    assert "known: accuracy_level, algorithm" in " ".join(refused.stderr.split())
