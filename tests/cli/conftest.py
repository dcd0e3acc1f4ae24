"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from infopt.cli import main
from tests.cli.support import Run, perceptron


@pytest.fixture
def infopt() -> Run:
    """Run the command line in this process: ``infopt("inspect", path, columns=60)``."""

    def run(*arguments: object, columns: int = 100) -> Result:
        return CliRunner().invoke(
            main,
            [str(argument) for argument in arguments],
            env={"COLUMNS": str(columns), "NO_COLOR": "1"},
        )

    return run


@pytest.fixture
def environment() -> dict[str, str]:
    """For child processes: plain text, one width."""
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "COLUMNS")}
    return kept | {"NO_COLOR": "1"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An ONNX file: ``x`` float[batch, 8] → ``scores`` float[batch, 4]."""
    path = tmp_path / "perceptron.onnx"
    onnx.save(perceptron(), path)
    return path


@pytest.fixture
def engine(infopt: Run, model: Path) -> Path:
    """An engine of :func:`model`, beside it."""
    path = model.with_suffix(".engine")
    result = infopt("optimize", model, "-o", path, "--no-bench", "-q")
    assert result.exit_code == 0, result.stderr
    return path
