"""TensorRT at the command line: what a user gets to read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infopt.backends import backend_for
from infopt.target import parse_target
from tests.cli.support import Run, document, no_leftovers

RTX = "tensorrt-rtx:sm89"


@pytest.fixture(autouse=True)
def buildable() -> None:
    reason = backend_for(parse_target(RTX)).unbuildable()
    if reason is not None:
        pytest.skip(reason)


def test_the_report_says_built_not_run(infopt: Run, model: Path, tmp_path: Path) -> None:
    if backend_for(parse_target(RTX)).unavailable() is None:
        pytest.skip("there is a GPU here")
    output = tmp_path / "out.engine"
    result = infopt("optimize", model, "-o", output, "--target", RTX, "--shape", "batch=1..8@4")
    assert result.exit_code == 0, result.stderr
    verbs = [line.split()[0] for line in result.stderr.splitlines() if line]
    assert verbs == ["Imported", "Checked", "Optimized", "Compiled", "Built", "Checked", "Wrote"]
    assert "engine: built, not run: there is no NVIDIA GPU here" in result.stdout
    assert re.search(r"How fast +not measured", result.stdout)
    shown = infopt("inspect", output).stdout
    assert "engine: built, not run" in shown
    assert RTX in shown


def test_bounds_are_asked_for(infopt: Run, model: Path, tmp_path: Path) -> None:
    result = infopt("optimize", model, "-o", tmp_path / "out.engine", "--target", RTX)
    assert result.exit_code == 2
    assert "--shape x=1..32x8@8x8" in result.stderr
    no_leftovers(tmp_path, "perceptron.onnx")


def test_an_unknown_gpu(infopt: Run, model: Path) -> None:
    result = infopt("optimize", model, "--target", "tensorrt-rtx:sm90")
    assert result.exit_code == 2
    assert "does not build for 'sm90'; did you mean" in result.stderr


def test_json_is_the_manifest(infopt: Run, model: Path, tmp_path: Path) -> None:
    options = ("--target", RTX, "--shape", "batch=1..8@4", "--no-verify", "--json")
    found = document(infopt("optimize", model, "-o", tmp_path / "out.engine", *options))
    build = found["manifest"]["build"]
    assert build["profiles"] == [{"x": {"least": [1, 8], "usual": [4, 8], "most": [8, 8]}}]
    assert build["capabilities"] == ["sm89"]


def test_several_profiles(infopt: Run, model: Path, tmp_path: Path) -> None:
    options = ("--target", RTX, "--profile", "batch=1", "--profile", "x=8..32x8@16x8", "--json")
    found = document(infopt("optimize", model, "-o", tmp_path / "out.engine", *options))
    assert found["manifest"]["build"]["profiles"] == [
        {"x": {"least": [1, 8], "usual": [1, 8], "most": [1, 8]}},
        {"x": {"least": [8, 8], "usual": [16, 8], "most": [32, 8]}},
    ]


def test_the_same_profile_twice(infopt: Run, model: Path) -> None:
    options = ("--target", RTX, "--profile", "batch=1..8", "--profile", "x=1..8x8")
    result = infopt("optimize", model, *options)
    assert result.exit_code == 2
    assert "profiles 1 and 2 are the same" in result.stderr
